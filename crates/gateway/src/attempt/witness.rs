//! A try that goes on when its request was answered by another worker.
//!
//! A try that a hedge outruns is cancelled, so that its worker stops for nobody. But then nobody
//! knows how long it would have taken, and a worker that is a third as fast as the others looks
//! like one that is a hundredth, which ought to be left alone. So of the tries at a worker that
//! was outrun, one at a time runs to its end, and what it took speaks for the others.

use std::sync::Arc;
use std::time::Instant;

use inferring_types::{BoxFuture, InferRequest, InferResponse, ServiceError};
use tokio::sync::oneshot;

use crate::clock;
use crate::endpoint::Endpoint;

/// Leave to run a try to its end, whoever waits for it. There is one for each worker.
pub(super) struct Witness {
    endpoint: Arc<Endpoint>,
    began: Instant,
}

impl Witness {
    /// For a try that begins `now` at this worker, if it was outrun since it was last heard of and
    /// no other one is a witness.
    pub(super) fn of(endpoint: &Arc<Endpoint>, now: Instant) -> Option<Self> {
        let is_called = endpoint.was_outrun() && endpoint.call_witness();
        is_called.then(|| Self { endpoint: Arc::clone(endpoint), began: now })
    }

    /// Asks the worker, until the request's deadline at the latest. To drop what is returned does
    /// not cancel that.
    pub(super) fn infer(
        self,
        request: InferRequest,
    ) -> BoxFuture<'static, Result<InferResponse, ServiceError>> {
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let deadline = request.deadline.at().into();
            let answer = self.endpoint.member.service.infer(request);
            // What it did not do in all that time is not known to be of any model's version.
            let Ok(result) = tokio::time::timeout_at(deadline, answer).await else { return };
            if let Err(Ok(response)) = tell.send(result) {
                let now = clock::now();
                let took = now.saturating_duration_since(self.began);
                self.endpoint.witnessed(&response, took, now);
            }
        });
        Box::pin(async {
            let gone =
                |_| Err(ServiceError::unreachable("the deadline passed or the gateway ends"));
            told.await.unwrap_or_else(gone)
        })
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.endpoint.dismiss_witness();
    }
}

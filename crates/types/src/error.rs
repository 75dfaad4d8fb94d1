//! The one error of a service: what went wrong, whose fault it is, and whether another worker
//! may do better.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Routed, WorkerId, WorkerLoad};

/// What went wrong, in the terms that become a status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is malformed or does not fit the model.
    InvalidArgument,
    /// No such model, version or path.
    NotFound,
    /// The path exists but not with this method.
    MethodNotAllowed,
    /// It is not allowed here.
    Forbidden,
    /// It does not go together with how things stand.
    Conflict,
    /// The body is larger than the server accepts.
    TooLarge,
    /// A queue or limit is full; trying later may succeed.
    Overloaded,
    /// Nobody can serve this now: no healthy worker, draining, not ready.
    Unavailable,
    /// The deadline passed.
    DeadlineExceeded,
    /// The server has no such feature.
    Unimplemented,
    /// The backend failed to execute the model, or the server has a defect.
    Internal,
}

/// Whose fault an error is. Only a worker's faults count against that worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The request itself; it would fail on every worker.
    Client,
    /// The worker that was asked could not be reached, or broke off.
    WorkerUnreachable,
    /// The worker that was asked answered, but failed.
    WorkerFailed,
    /// The server's own state (a limit, no worker left), no single worker's fault.
    Server,
}

/// An error that a service answers with.
///
/// [`fmt::Display`] is what the client may read; [`Error::source`] carries the rest for the
/// operator's log. Cloning is cheap: one failed run may answer many requests.
#[derive(Debug, Clone)]
pub struct ServiceError {
    kind: ErrorKind,
    blame: Blame,
    retryable: bool,
    unsent: bool,
    retry_after: Option<Duration>,
    message: Arc<str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
    /// Apart, because most errors have none.
    origin: Option<Box<Origin>>,
}

/// What an answer tells of the worker that gave it, where the answer is an error.
#[derive(Debug, Clone, Default)]
struct Origin {
    worker: Option<WorkerId>,
    load: Option<WorkerLoad>,
    routed: Option<Routed>,
}

impl ServiceError {
    /// An error of this kind and blame; not retryable.
    pub fn new(kind: ErrorKind, blame: Blame, message: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            blame,
            retryable: false,
            unsent: false,
            retry_after: None,
            message: message.into(),
            source: None,
            origin: None,
        }
    }

    /// The request is wrong: `InvalidArgument`, blamed on the client.
    pub fn invalid(message: impl Into<Arc<str>>) -> Self {
        Self::new(ErrorKind::InvalidArgument, Blame::Client, message)
    }

    /// The named thing does not exist: `NotFound`, blamed on the client.
    pub fn not_found(message: impl Into<Arc<str>>) -> Self {
        Self::new(ErrorKind::NotFound, Blame::Client, message)
    }

    /// A bounded queue is full: `Overloaded`, retryable on another worker.
    pub fn overloaded(message: impl Into<Arc<str>>) -> Self {
        Self::new(ErrorKind::Overloaded, Blame::Server, message).retryable()
    }

    /// Nobody can serve this now: `Unavailable`, retryable on another worker.
    pub fn unavailable(message: impl Into<Arc<str>>) -> Self {
        Self::new(ErrorKind::Unavailable, Blame::Server, message).retryable()
    }

    /// A worker could not be reached or broke off: `Unavailable`, retryable on another.
    pub fn unreachable(message: impl Into<Arc<str>>) -> Self {
        Self::new(ErrorKind::Unavailable, Blame::WorkerUnreachable, message).retryable()
    }

    /// The deadline passed. Nobody waits any more, so it is never retried.
    pub fn deadline_exceeded(message: impl Into<Arc<str>>) -> Self {
        Self::new(ErrorKind::DeadlineExceeded, Blame::Server, message)
    }

    /// A worker failed to execute the model: `Internal`, retryable on another worker.
    pub fn failed(message: impl Into<Arc<str>>) -> Self {
        Self::new(ErrorKind::Internal, Blame::WorkerFailed, message).retryable()
    }

    /// The same error, marked as worth a try on another worker.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// The same error, where it is certain that nothing of the request reached the worker.
    #[must_use]
    pub fn unsent(mut self) -> Self {
        self.unsent = true;
        self
    }

    /// The same error, with the time after which it is worth trying again.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }

    /// The same error with the cause that the operator's log shows.
    #[must_use]
    pub fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The same error, of this worker unless it is known to be of another.
    #[must_use]
    pub fn at_worker(mut self, worker: WorkerId) -> Self {
        self.origin.get_or_insert_default().worker.get_or_insert(worker);
        self
    }

    /// The same error, with what the worker expects of the next request for this model.
    #[must_use]
    pub fn with_load(mut self, load: WorkerLoad) -> Self {
        self.origin.get_or_insert_default().load = Some(load);
        self
    }

    /// The same error, with how a gateway came to ask the worker whose it is.
    #[must_use]
    pub fn routed(mut self, routed: Routed) -> Self {
        self.origin.get_or_insert_default().routed = Some(routed);
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        self.blame
    }

    /// Whether another worker may do better. Of a client's mistake: it is none where another worker
    /// knows what this one does not, such as the state of a sequence.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// Whether it is certain that nothing of the request reached the worker: then another one can
    /// be asked at no risk, and it has cost no worker anything.
    pub fn is_unsent(&self) -> bool {
        self.unsent
    }

    /// After which time it is worth trying again, where that can be told.
    pub fn worth_retrying_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The worker that was asked last, where one was.
    pub fn worker(&self) -> Option<&WorkerId> {
        self.origin.as_ref()?.worker.as_ref()
    }

    /// What that worker told of its queue, if it did.
    pub fn load(&self) -> Option<WorkerLoad> {
        self.origin.as_ref()?.load
    }

    /// How a gateway came to ask that worker; `None` where none was asked.
    pub fn routing(&self) -> Option<Routed> {
        self.origin.as_ref()?.routed
    }

    /// The message and its whole chain of causes, for the operator's log.
    pub fn chain(&self) -> impl fmt::Display + '_ {
        Chain(self)
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ServiceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

struct Chain<'a>(&'a ServiceError);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_reads_the_message_and_the_operator_the_chain() {
        let error = ServiceError::unreachable("worker `w` broke off")
            .caused_by(std::io::Error::other("connection reset"));
        assert_eq!(error.to_string(), "worker `w` broke off");
        assert_eq!(error.chain().to_string(), "worker `w` broke off: connection reset");
        assert!(error.is_retryable());
    }

    #[test]
    fn the_worker_that_is_known_first_is_the_one_it_is_of() {
        let error = ServiceError::overloaded("full");
        assert_eq!((error.worker(), error.load(), error.routing()), (None, None, None));
        let load = WorkerLoad { wait: Duration::from_millis(3), run: Duration::from_millis(1) };
        let error = error.at_worker("inner".into()).with_load(load).at_worker("outer".into());
        assert_eq!(error.worker().map(WorkerId::as_str), Some("inner"));
        assert_eq!(error.load(), Some(load));
    }
}

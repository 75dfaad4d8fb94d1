//! `X-Inferring-Explain`: why an answer came from where it did.

use std::time::Duration;

use http::HeaderValue;
use inferring_types::{CacheOutcome, InferResponse, RouteReason, ServiceError, WorkerId};

use super::dictionary;

/// Why an answer came from where it did, as far as that is known. Of an error it is the try that
/// failed last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The worker that answered.
    pub worker: Option<WorkerId>,
    /// Which try of a gateway's it was, counted from 1.
    pub attempt: Option<u32>,
    /// Why the gateway asked that worker.
    pub reason: Option<RouteReason>,
    /// Whether the model ran for this request.
    pub cache: Option<CacheOutcome>,
    /// Rows in the run that computed the answer; 0 where none did.
    pub batch: Option<u32>,
    /// How long the request waited for an instance of the model.
    pub queue: Option<Duration>,
    /// How long the run took.
    pub compute: Option<Duration>,
    /// How long the worker had the request.
    pub at_worker: Option<Duration>,
    /// What the gateway took beside that, failed tries and the network included.
    pub at_gateway: Option<Duration>,
}

impl Explanation {
    /// Why that answer came from where it did.
    pub fn of(response: &InferResponse) -> Self {
        let (served, routed) = (&response.served, response.routed);
        Self {
            worker: Some(served.worker.clone()),
            attempt: routed.map(|routed| routed.attempt),
            reason: routed.map(|routed| routed.reason),
            cache: Some(served.cache),
            batch: Some(served.batch_size),
            queue: Some(served.queue_time),
            compute: Some(served.execution_time),
            at_worker: Some(served.inference_time),
            at_gateway: routed.map(|routed| routed.time.saturating_sub(served.inference_time)),
        }
    }

    /// What is known of a request that failed; `None` where no worker was asked.
    pub fn of_error(error: &ServiceError) -> Option<Self> {
        let (worker, routed) = (error.worker().cloned(), error.routing());
        if worker.is_none() && routed.is_none() {
            return None;
        }
        Some(Self {
            worker,
            attempt: routed.map(|routed| routed.attempt),
            reason: routed.map(|routed| routed.reason),
            at_gateway: routed.map(|routed| routed.time),
            ..Self::default()
        })
    }

    /// It as a dictionary of structured fields (RFC 9651), times in microseconds:
    /// `worker="worker_1", attempt=1, reason=primary, cache=computed, batch=3, queue_us=12,
    /// compute_us=40, worker_us=120, gateway_us=200`.
    pub fn text(&self) -> String {
        let mut writer = dictionary::Writer::default();
        if let Some(worker) = &self.worker {
            writer.text("worker", worker.as_str());
        }
        writer.number("attempt", self.attempt.map(u64::from));
        if let Some(reason) = self.reason {
            writer.word("reason", reason.name());
        }
        if let Some(cache) = self.cache {
            writer.word("cache", cache.name());
        }
        writer.number("batch", self.batch.map(u64::from));
        for (key, time) in [
            ("queue_us", self.queue),
            ("compute_us", self.compute),
            ("worker_us", self.at_worker),
            ("gateway_us", self.at_gateway),
        ] {
            writer.number(key, time.map(microseconds));
        }
        writer.finish()
    }

    /// What a field says; members of other names are passed over. `None` where it is malformed.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        let mut read = Self::default();
        for (key, value) in dictionary::read(value.to_str().ok()?)? {
            let count = || value.parse().ok();
            let time = || value.parse().ok().map(Duration::from_micros);
            match key {
                "worker" => read.worker = Some(WorkerId::from(&*value)),
                "attempt" => read.attempt = count(),
                "reason" => read.reason = RouteReason::from_name(&value),
                "cache" => read.cache = CacheOutcome::from_name(&value),
                "batch" => read.batch = count(),
                "queue_us" => read.queue = time(),
                "compute_us" => read.compute = time(),
                "worker_us" => read.at_worker = time(),
                "gateway_us" => read.at_gateway = time(),
                _ => {}
            }
        }
        Some(read)
    }
}

impl From<&Explanation> for HeaderValue {
    fn from(explanation: &Explanation) -> Self {
        Self::try_from(explanation.text()).expect("a dictionary is visible ASCII")
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use inferring_types::Routed;

    use super::*;

    #[test]
    fn an_explanation_reads_back() {
        let micros = Duration::from_micros;
        let whole = Explanation {
            worker: Some("worker_1".into()),
            attempt: Some(2),
            reason: Some(RouteReason::Retry),
            cache: Some(CacheOutcome::Joined),
            batch: Some(3),
            queue: Some(micros(12)),
            compute: Some(micros(40)),
            at_worker: Some(micros(120)),
            at_gateway: Some(micros(200)),
        };
        assert_eq!(
            whole.text(),
            "worker=\"worker_1\", attempt=2, reason=retry, cache=joined, batch=3, queue_us=12, \
             compute_us=40, worker_us=120, gateway_us=200",
        );
        for explanation in [whole, Explanation::default()] {
            assert_eq!(Explanation::parse(&HeaderValue::from(&explanation)), Some(explanation));
        }
        for reason in RouteReason::ALL {
            let explanation = Explanation { reason: Some(reason), ..Explanation::default() };
            assert_eq!(Explanation::parse(&HeaderValue::from(&explanation)), Some(explanation));
        }
    }

    #[test]
    fn what_is_not_known_is_not_read_and_does_no_harm() {
        let value = HeaderValue::from_static("worker=\"w\", reason=moon, weight=2, attempt=many");
        let read = Explanation::parse(&value).unwrap();
        let expected = Explanation { worker: Some("w".into()), ..Explanation::default() };
        assert_eq!(read, expected);
        assert_eq!(Explanation::parse(&HeaderValue::from_static("1")), None);
    }

    #[test]
    fn of_an_error_the_last_try_is_told_where_there_was_one() {
        let error = ServiceError::unreachable("gone");
        assert_eq!(Explanation::of_error(&error), None);
        let time = Duration::from_millis(3);
        let routed = Routed { attempt: 2, reason: RouteReason::Retry, time };
        let error = error.at_worker("worker_2".into()).routed(routed);
        let text = Explanation::of_error(&error).unwrap().text();
        assert_eq!(text, "worker=\"worker_2\", attempt=2, reason=retry, gateway_us=3000");
    }
}

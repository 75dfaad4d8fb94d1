//! Why an answer came from where it did, in words.

use std::time::Duration;

use inferring_protocol::fields::Explanation;
use inferring_types::{CacheOutcome, RouteReason};

use super::answer::Milliseconds;

/// Who answered and why, and where the time went: two lines.
pub(super) fn in_words(explanation: Option<&Explanation>) -> String {
    let Some(explanation) = explanation else {
        return "the server does not explain its answers\n".to_owned();
    };
    let from = match explanation.cache {
        Some(CacheOutcome::Computed) => {
            let (rows, noun) = counted(explanation.batch.unwrap_or_default(), "row", "rows");
            format!("computed in a run of {rows} {noun}")
        }
        Some(CacheOutcome::Hit) => "it was in the cache".to_owned(),
        Some(CacheOutcome::Joined) => "shared with an equal request".to_owned(),
        None => "how is not told".to_owned(),
    };
    let times: Vec<_> = [
        ("waiting for an instance", explanation.queue),
        ("the run", explanation.compute),
        ("the worker in all", explanation.at_worker),
        ("the gateway and the network", explanation.at_gateway),
    ]
    .into_iter()
    .filter_map(|(what, time)| Some(format!("{what} {}", Milliseconds(time?))))
    .collect();
    format!("why: {}; {from}\ntime: {}\n", who(explanation, "answered"), times.join(", "))
}

/// Who failed last, before the error is told.
pub(super) fn of_failure(explanation: &Explanation) -> String {
    let after =
        explanation.at_gateway.map(|time: Duration| format!(", after {}", Milliseconds(time)));
    format!("{}{}", who(explanation, "failed"), after.unwrap_or_default())
}

fn who(explanation: &Explanation, did: &str) -> String {
    let worker = explanation.worker.as_ref().map_or("a worker", |worker| worker.as_str());
    let attempt = match explanation.attempt {
        None => String::new(),
        Some(attempt) => format!(" on try {attempt}"),
    };
    let because = match explanation.reason {
        None => "it was asked directly",
        Some(RouteReason::Primary) => "the request's content belongs to it",
        Some(RouteReason::Replica) => "such content is asked for so often that several share it",
        Some(RouteReason::Flight) => "an equal request was under way to it",
        Some(RouteReason::Bound) => "the workers before it had their share of the load",
        Some(RouteReason::SlowStart) => "the workers before it have only just begun",
        Some(RouteReason::Breaker) => "the workers before it had failed too often",
        Some(RouteReason::Ejected) => "the workers before it do far worse than the others",
        Some(RouteReason::Backlog) => "the queues of the workers before it were too long",
        Some(RouteReason::Unreachable) => {
            "the workers before it were not there, silent, or stopping"
        }
        Some(RouteReason::Retry) => "the try before failed",
        Some(RouteReason::Hedge) => "the try before took longer than most do",
        Some(RouteReason::Panic) => "so few workers do well that all are asked",
    };
    format!("{worker} {did}{attempt}: {because}")
}

fn counted(count: u32, one: &'static str, many: &'static str) -> (u32, &'static str) {
    (count, if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_reads_as_a_sentence() {
        let micros = |count| Some(Duration::from_micros(count));
        let direct = Explanation {
            worker: Some("worker_1".into()),
            cache: Some(CacheOutcome::Computed),
            batch: Some(1),
            queue: micros(12),
            compute: micros(40),
            at_worker: micros(120),
            ..Explanation::default()
        };
        assert_eq!(
            in_words(Some(&direct)),
            "why: worker_1 answered: it was asked directly; computed in a run of 1 row\n\
             time: waiting for an instance 0.01 ms, the run 0.04 ms, the worker in all 0.12 ms\n",
        );
        let routed = Explanation {
            attempt: Some(2),
            reason: Some(RouteReason::Retry),
            batch: Some(3),
            at_gateway: micros(2500),
            ..direct
        };
        let text = in_words(Some(&routed));
        assert!(
            text.starts_with("why: worker_1 answered on try 2: the try before failed; "),
            "{text}"
        );
        assert!(text.ends_with(", the gateway and the network 2.50 ms\n"), "{text}");
        assert_eq!(
            of_failure(&routed),
            "worker_1 failed on try 2: the try before failed, after 2.50 ms",
        );
    }
}

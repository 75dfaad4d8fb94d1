//! Whether the result cache works, and what it is worth.
//!
//! Every input is sent once, then every input once more. The first round must be computed, the
//! second must come from the cache, and its outputs must be the first round's to the byte.

use serde::{Deserialize, Serialize};

use crate::observe::ratio;
use crate::report::{RoundReport, rounded};
use crate::run::Measured;

/// What the cache test found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheTestReport {
    /// How many inputs were sent, each once per round.
    pub inputs: u64,
    /// The round that had to be computed.
    pub misses: RoundReport,
    /// The round that had to come from the cache.
    pub hits: RoundReport,
    /// How many times less the mean answer of the second round took; absent where a round had
    /// no good answer.
    pub speed_up_mean: Option<f64>,
    /// The same by the median.
    pub speed_up_p50: Option<f64>,
    /// Inputs that were answered well in both rounds, so that their outputs were compared.
    pub compared: u64,
    /// Of these, how many had another output in the second round.
    pub different: u64,
    /// Whether all was as it should be.
    pub passed: bool,
    /// What was not.
    pub findings: Vec<String>,
}

impl CacheTestReport {
    pub(crate) fn new(inputs: u64, first: &Measured, second: &Measured) -> Self {
        let misses = RoundReport::new(first, None);
        let hits = RoundReport::new(second, None);
        let (compared, different) = compare(first, second);
        let findings = findings(inputs, &misses, &hits, different);
        let speed_up = |of: fn(&crate::report::LatencyReport) -> f64| {
            let (slow, fast) = (of(&misses.latency_ms?), of(&hits.latency_ms?));
            (fast > 0.0).then(|| rounded(slow / fast, 2))
        };
        Self {
            inputs,
            speed_up_mean: speed_up(|latency| latency.mean),
            speed_up_p50: speed_up(|latency| latency.p50),
            compared,
            different,
            passed: findings.is_empty(),
            findings,
            misses,
            hits,
        }
    }
}

fn compare(first: &Measured, second: &Measured) -> (u64, u64) {
    let (Some(first), Some(second)) = (&first.tally.outputs, &second.tally.outputs) else {
        return (0, 0);
    };
    let pairs = first.iter().filter_map(|(index, output)| Some((output, second.get(index)?)));
    pairs.fold((0, 0), |(compared, different), (first, second)| {
        (compared + 1, different + u64::from(first != second))
    })
}

fn findings(inputs: u64, misses: &RoundReport, hits: &RoundReport, different: u64) -> Vec<String> {
    let mut findings = Vec::new();
    if misses.succeeded < inputs || hits.succeeded < inputs {
        findings.push(format!(
            "not every request was answered: {} of {inputs} in the first round, {} in the second",
            misses.succeeded, hits.succeeded,
        ));
    }
    if misses.cached > 0 {
        findings.push(format!(
            "{} answers of the first round came from the cache already: the inputs were known to \
             the server, use another seed",
            misses.cached,
        ));
    }
    if hits.cached < hits.succeeded {
        findings.push(format!(
            "only {} of {} answers of the second round ({:.1} %) came from the cache: it is off, \
             smaller than {inputs} entries, or a worker was not asked again for what it knew",
            hits.cached,
            hits.succeeded,
            ratio(hits.cached, hits.succeeded) * 100.0,
        ));
    }
    if different > 0 {
        findings.push(format!("{different} inputs had another output in the second round"));
    }
    findings
}

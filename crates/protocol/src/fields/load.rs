//! `X-Inferring-Load`: what a worker expects of the next request for a model.
//!
//! It goes with every answer that a gateway asks for, so it has one fixed form:
//! `wait_us=120, run_us=45`.

use std::time::Duration;

use http::HeaderValue;
use inferring_types::WorkerLoad;

const WAIT: &[u8] = b"wait_us=";
const RUN: &[u8] = b", run_us=";

/// The field's value.
pub fn value(load: WorkerLoad) -> HeaderValue {
    /// The names, and two numbers of at most 20 digits.
    const LENGTH_MAX: usize = WAIT.len() + RUN.len() + 40;
    let mut line = [0; LENGTH_MAX];
    let mut length = 0;
    for (name, time) in [(WAIT, load.wait), (RUN, load.run)] {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)).as_bytes();
        for part in [name, digits] {
            line[length..length + part.len()].copy_from_slice(part);
            length += part.len();
        }
    }
    HeaderValue::from_bytes(&line[..length]).expect("names and digits are visible")
}

/// What a field says; `None` where it is malformed. It only helps to choose: an answer is as good
/// without it.
pub fn parse(value: &HeaderValue) -> Option<WorkerLoad> {
    let rest = value.as_bytes().strip_prefix(WAIT)?;
    let end = rest.iter().position(|&byte| byte == RUN[0])?;
    let run = rest[end..].strip_prefix(RUN)?;
    let time = |digits: &[u8]| {
        let count = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Some(Duration::from_micros(count))
    };
    Some(WorkerLoad { wait: time(&rest[..end])?, run: time(run)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_reads_back() {
        let micros = Duration::from_micros;
        for (wait, run) in [(0, 0), (120, 45), (u64::MAX, u64::MAX)] {
            let load = WorkerLoad { wait: micros(wait), run: micros(run) };
            assert_eq!(parse(&value(load)), Some(load));
        }
        let load = WorkerLoad { wait: micros(120), run: micros(45) };
        assert_eq!(value(load), "wait_us=120, run_us=45");
        assert!(parse(&value(WorkerLoad { wait: Duration::MAX, run: Duration::MAX })).is_some());
    }

    #[test]
    fn what_is_malformed_says_nothing() {
        for text in ["", "1", "wait_us=1", "wait_us=, run_us=1", "wait_us=1, run_us=-1", "run_us=1"]
        {
            assert_eq!(parse(&HeaderValue::from_static(text)), None, "{text}");
        }
    }
}

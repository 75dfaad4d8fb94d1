//! `Server-Timing`: where the time of an answer went.

use std::time::Duration;

use http::HeaderValue;
use inferring_types::{InferResponse, ServiceError};

/// What an answer took, as far as that is known.
///
/// It is written in milliseconds, to the microsecond:
/// `queue;dur=0.012, compute;dur=0.04, worker;dur=0.12, gateway;dur=0.2, total;dur=0.4`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// How long the request waited for an instance of the model, how long the run took, and how
    /// long the worker had the request in all.
    pub worker: Option<[Duration; 3]>,
    /// What the gateway took beside that: to find a worker, for tries that failed, and for the
    /// network.
    pub gateway: Option<Duration>,
}

impl Timings {
    /// What that answer took.
    pub fn of(response: &InferResponse) -> Self {
        let served = &response.served;
        Self {
            worker: Some([served.queue_time, served.execution_time, served.inference_time]),
            gateway: response
                .routed
                .map(|routed| routed.time.saturating_sub(served.inference_time)),
        }
    }

    /// What that error took, as far as it is known: at a gateway, all of it.
    pub fn of_error(error: &ServiceError) -> Self {
        Self { worker: None, gateway: error.routing().map(|routed| routed.time) }
    }

    /// The field's value; `total` is what the whole took, from the request's arrival.
    pub fn value(&self, total: Duration) -> HeaderValue {
        let mut line = Line::new();
        if let Some([queue, compute, worker]) = self.worker {
            line.metric(b"queue;dur=", queue);
            line.metric(b"compute;dur=", compute);
            line.metric(b"worker;dur=", worker);
        }
        if let Some(gateway) = self.gateway {
            line.metric(b"gateway;dur=", gateway);
        }
        line.metric(b"total;dur=", total);
        HeaderValue::from_bytes(line.bytes()).expect("names and digits are visible")
    }
}

/// The value while it is written, on the stack.
struct Line {
    bytes: [u8; Self::LENGTH_MAX],
    length: usize,
}

impl Line {
    /// Five metrics, each with a name of at most 12 bytes, a separator and the longest time: 17
    /// digits, a point and three more.
    const LENGTH_MAX: usize = 5 * (2 + 12 + 21);

    fn new() -> Self {
        Self { bytes: [0; Self::LENGTH_MAX], length: 0 }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn metric(&mut self, name: &[u8], time: Duration) {
        if self.length > 0 {
            self.push(b", ");
        }
        self.push(name);
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.push(itoa::Buffer::new().format(microseconds / 1000).as_bytes());
        let rest = (microseconds % 1000) as u16;
        if rest > 0 {
            let digits = [rest / 100, rest / 10 % 10, rest % 10].map(|digit| b'0' + digit as u8);
            let shown = match digits {
                [_, b'0', b'0'] => 1,
                [_, _, b'0'] => 2,
                _ => 3,
            };
            self.push(b".");
            self.push(&digits[..shown]);
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds_to_the_microsecond() {
        let micros = Duration::from_micros;
        for (time, expected) in [
            (Duration::ZERO, "total;dur=0"),
            (Duration::from_nanos(999), "total;dur=0"),
            (micros(7), "total;dur=0.007"),
            (micros(40), "total;dur=0.04"),
            (micros(500), "total;dur=0.5"),
            (micros(12_345), "total;dur=12.345"),
            (Duration::from_secs(3), "total;dur=3000"),
        ] {
            assert_eq!(Timings::default().value(time), expected);
        }
    }

    #[test]
    fn each_part_has_its_name_and_the_longest_have_room() {
        let micros = Duration::from_micros;
        let timings = Timings {
            worker: Some([micros(12), micros(40), micros(120)]),
            gateway: Some(micros(200)),
        };
        assert_eq!(
            timings.value(micros(400)),
            "queue;dur=0.012, compute;dur=0.04, worker;dur=0.12, gateway;dur=0.2, total;dur=0.4",
        );
        let longest = Timings { worker: Some([Duration::MAX; 3]), gateway: Some(Duration::MAX) };
        assert!(longest.value(Duration::MAX).as_bytes().ends_with(b"18446744073709551.615"));
    }
}

//! Which workers a gateway has: as a list names them, and as a node tells of its list.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::WorkerId;

/// A worker as a list or an operator names it, by text `[ID=]HOST:PORT[*WEIGHT]`.
///
/// The id fixes its place on the ring, and is its address where none is given. It outlives the
/// worker's process and its address: what returns under its id gets its keys back.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerSpec {
    /// Its stable id.
    pub id: WorkerId,
    /// Where it is reached, as `HOST:PORT`.
    pub address: String,
    /// Its share of the keys, relative to the others.
    pub weight: f64,
    /// Whether it is to get no new requests.
    pub draining: bool,
}

/// Why a text names no worker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no worker: {problem}; expected [ID=]HOST:PORT[*WEIGHT]")]
pub struct InvalidWorker {
    text: String,
    problem: &'static str,
}

impl WorkerSpec {
    /// The weight of a worker that is given none.
    pub const DEFAULT_WEIGHT: f64 = 1.0;

    /// A worker of the usual weight at `address`, under the id that is given or its address.
    ///
    /// # Errors
    /// [`InvalidWorker`] where the address is not `HOST:PORT`, or the id is no text to name a
    /// worker by.
    pub fn new(id: Option<&str>, address: &str) -> Result<Self, InvalidWorker> {
        // People paste URLs.
        let plain = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
        let invalid = |problem| InvalidWorker { text: address.to_owned(), problem };
        let (host, port) = plain.rsplit_once(':').ok_or_else(|| invalid("the port is missing"))?;
        if host.is_empty() {
            return Err(invalid("the host is missing"));
        }
        if plain.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
            return Err(invalid("the host is no name"));
        }
        port.parse::<u16>().map_err(|_| invalid("the port is no number up to 65535"))?;
        let id = id.unwrap_or(plain);
        if id.is_empty() || id.len() > Self::ID_LENGTH_MAX || id.contains(char::is_control) {
            let problem = "its id is empty, longer than 256 bytes, or has control characters";
            return Err(invalid(problem));
        }
        Ok(Self {
            id: WorkerId::from(id),
            address: plain.to_owned(),
            weight: Self::DEFAULT_WEIGHT,
            draining: false,
        })
    }

    const ID_LENGTH_MAX: usize = 256;
}

impl FromStr for WorkerSpec {
    type Err = InvalidWorker;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (id, rest) = match text.split_once('=') {
            Some((id, rest)) => (Some(id), rest),
            None => (None, text),
        };
        let (address, weight) = match rest.split_once('*') {
            Some((address, weight)) => (address, Some(weight)),
            None => (rest, None),
        };
        let invalid = |problem| InvalidWorker { text: text.to_owned(), problem };
        let spec = Self::new(id, address).map_err(|error| invalid(error.problem))?;
        let weight = match weight {
            Some(weight) => weight.parse().map_err(|_| invalid("the weight is no number"))?,
            None => spec.weight,
        };
        Ok(Self { weight, ..spec })
    }
}

impl fmt::Display for WorkerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, address, weight, .. } = self;
        write!(f, "{id}={address}*{weight}")
    }
}

/// What a gateway tells of its list of workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MembershipStatus {
    /// Counts the lists in force since the gateway started; the first is 1.
    pub version: u64,
    /// Equal on gateways that route alike: over ids, weights and who drains, in no order.
    pub fingerprint: String,
    /// Where the list comes from, for people to read.
    pub source: String,
    /// Time since the list in force came into force.
    pub age: Duration,
    /// Why the source's newest list is not in force; `None` where it is.
    pub error: Option<String>,
    /// Lists that could not be read or taken over since the gateway started.
    pub failures: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_named_by_address_id_and_weight() {
        for (text, id, address, weight) in [
            ("localhost:8001", "localhost:8001", "localhost:8001", 1.0),
            ("w1=10.0.0.1:8001*2.5", "w1", "10.0.0.1:8001", 2.5),
            ("http://localhost:8001/", "localhost:8001", "localhost:8001", 1.0),
            ("[::1]:8001", "[::1]:8001", "[::1]:8001", 1.0),
        ] {
            let expected =
                WorkerSpec { id: id.into(), address: address.into(), weight, draining: false };
            assert_eq!(text.parse(), Ok(expected.clone()));
            assert_eq!(expected.to_string().parse(), Ok(expected));
        }
    }

    #[test]
    fn a_text_that_names_no_worker_is_told_why() {
        for (text, problem) in [
            ("localhost", "the port is missing"),
            ("localhost:99999", "the port is no number"),
            (":8001", "the host is missing"),
            ("a b:8001", "the host is no name"),
            ("h/infer:1", "the host is no name"),
            ("=h:1", "its id is empty"),
            ("a\nb=h:1", "control characters"),
            ("h:1*x", "the weight is no number"),
            ("", "the port is missing"),
        ] {
            let error = text.parse::<WorkerSpec>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is no worker: ")), "{error}");
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}

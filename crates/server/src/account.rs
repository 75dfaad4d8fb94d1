//! What an answer to an inference tells beside its content: what it took, where it came from, and
//! what the worker expects of the next request.
//!
//! REST and gRPC say it in the same fields. A request's fields only ask for them: none is
//! believed or repeated, whoever sent it.

use std::time::Instant;

use http::{HeaderMap, HeaderValue};
use inferring_protocol::fields::{Asked, EXPLAIN, Explanation, LOAD, SERVER_TIMING, Timings, load};
use inferring_types::{InferResponse, ServiceError, WorkerLoad};

/// What whoever asks wants to be told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Curiosity {
    /// When the request arrived.
    arrived: Instant,
    /// Only a gateway asks for a worker's load; it knows from the answer itself what it took.
    asked: Asked,
}

impl Curiosity {
    /// Of a request that arrived then and of which nothing else is known.
    pub(crate) fn at(arrived: Instant) -> Self {
        Self { arrived, asked: Asked::default() }
    }

    /// Of a request that arrived then, with these fields.
    pub(crate) fn read(arrived: Instant, fields: &HeaderMap) -> Self {
        Self { arrived, asked: Asked::read(fields) }
    }

    /// Whether a gateway asks, which is to hear at once of what else it would learn by its probes.
    pub(crate) fn is_a_gateways(self) -> bool {
        self.asked.load
    }

    /// What there is to tell of an answer.
    pub(crate) fn account_of(self, response: &InferResponse) -> Account {
        // What a gateway's workers expect concerns nobody else.
        let is_the_workers = response.routed.is_none();
        Account {
            arrived: self.arrived,
            timings: Timings::of(response),
            explanation: self.asked.explanation.then(|| Explanation::of(response)),
            load: (self.asked.load && is_the_workers).then_some(response.served.load),
        }
    }

    /// What there is to tell of an error.
    pub(crate) fn account_of_error(self, error: &ServiceError) -> Account {
        let is_the_workers = error.routing().is_none();
        Account {
            arrived: self.arrived,
            timings: Timings::of_error(error),
            explanation: if self.asked.explanation { Explanation::of_error(error) } else { None },
            load: error.load().filter(|_| self.asked.load && is_the_workers),
        }
    }
}

/// What there is to tell of an answer, to be told when it is ready.
#[derive(Debug)]
pub(crate) struct Account {
    arrived: Instant,
    timings: Timings,
    explanation: Option<Explanation>,
    load: Option<WorkerLoad>,
}

impl Account {
    /// Tells it in an answer's fields.
    pub(crate) fn insert_into(self, fields: &mut HeaderMap) {
        match self.load {
            Some(told) => fields.insert(LOAD, load::value(told)),
            None => fields.insert(SERVER_TIMING, self.timings.value(self.arrived.elapsed())),
        };
        if let Some(explanation) = self.explanation {
            fields.insert(EXPLAIN, HeaderValue::from(&explanation));
        }
    }

    /// The explanation, where one is wanted: for an answer that has no fields of its own.
    pub(crate) fn into_explanation(self) -> Option<String> {
        self.explanation.map(|explanation| explanation.text())
    }
}

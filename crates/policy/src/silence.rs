//! Suspects a worker that others keep outrunning, before a health check can time out.
//!
//! A worker that was stopped, or behind a network that swallows packets, takes requests and says
//! nothing. Health checks find that out within seconds, as a single one that is late proves
//! nothing. Until then each of its requests waits for its hedge. But several requests in a row
//! that a hedge answered first, and not a word from the worker between them, are reason enough to
//! ask another one first, until the worker is heard of: a health check that it answers is a word
//! as well. So a worker that lives is suspected for as long as a health check takes.

use crate::sync::{AtomicU64, Ordering};

/// Requests in a row, without a word from the worker between them, that make it suspected: as
/// many as failures that open its breaker.
const OUTRUN_TO_SUSPECT: u64 = 5;

/// How many of a worker's requests others have answered first since it was last heard of.
#[derive(Debug, Default)]
pub struct Silence {
    outrun: AtomicU64,
}

impl Silence {
    /// Another worker was asked later and has answered first. Whether this made it suspected.
    pub fn outrun(&self) -> bool {
        self.outrun.fetch_add(1, Ordering::Relaxed) + 1 == OUTRUN_TO_SUSPECT
    }

    /// It has answered a request or a health check, however badly.
    pub fn heard(&self) {
        // Nearly always there is nothing to forget, and what all threads read stays unwritten.
        if self.outrun.load(Ordering::Relaxed) != 0 {
            self.outrun.store(0, Ordering::Relaxed);
        }
    }

    /// Whether others were faster since it was last heard of.
    pub fn was_outrun(&self) -> bool {
        self.outrun.load(Ordering::Relaxed) > 0
    }

    /// Whether others are to be asked in its place.
    pub fn is_suspected(&self) -> bool {
        self.outrun.load(Ordering::Relaxed) >= OUTRUN_TO_SUSPECT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_outrun_in_a_row_make_a_worker_suspected_until_it_is_heard_of() {
        let silence = Silence::default();
        for _ in 0..2 {
            for _ in 0..2 {
                for _ in 1..OUTRUN_TO_SUSPECT {
                    assert!(!silence.outrun() && !silence.is_suspected());
                    assert!(silence.was_outrun());
                }
                silence.heard();
                assert!(!silence.was_outrun());
            }
            for count in 1..=2 * OUTRUN_TO_SUSPECT {
                assert_eq!(silence.outrun(), count == OUTRUN_TO_SUSPECT, "it is told once");
                assert_eq!(silence.is_suspected(), count >= OUTRUN_TO_SUSPECT);
            }
            silence.heard();
            assert!(!silence.is_suspected());
        }
    }
}

//! Bounds each worker's part of the requests in flight, so that a key that everybody asks for
//! does not bury the one worker that it belongs to.
//!
//! With m requests in flight, another one is admitted to worker i, whose weight is w of a total
//! of W, where
//!
//! ```text
//! in_flight_i + 1 <= max(1, ceil(c * (m + 1) * w / W))
//! ```
//!
//! All sums go over the workers that this request could be given to: one that is down takes
//! nothing off the others. Together the bounds are at least c * (m + 1), which exceeds m where c
//! is 1 or more, so that somebody always has room. What finds its first worker at the bound goes
//! on in its key's *own* order. Thus the overflow of one worker spreads over all others, and the
//! overflow of one key comes to the same next worker each time, where its answer is known by then.
//!
//! What only waits for the run of an equal request is not counted: see `flights`.
//!
//! The bound holds at the moment of admission. Later the others may finish what they do, the
//! total falls and with it the bound: nobody is moved for that.
//!
//! Consistent hashing with bounded loads after Mirrokni, Thorup and Zadimoghaddam (2018).

mod choice;
mod ledger;

pub use choice::{Because, Candidate, LoadFactor, REPLICAS_MAX, Spread};
pub use ledger::{Load, LoadLedger, LoadSlot, Reserved, Ride};

#[cfg(test)]
mod tests;

//! What hand-written synchronisation of this crate is made of. The models under `tests/loom.rs`
//! compile the same source over loom's, which tries every order in which threads can meet; a
//! simulation compiles it over threads that meet in an order drawn from a seed.

#[cfg(simulated)]
pub(crate) use inferring_lockstep::standard::{Condvar, Mutex, MutexGuard};
pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
#[cfg(not(simulated))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

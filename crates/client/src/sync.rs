//! What hand-written synchronisation of this crate is made of. The models in `tests/loom.rs`
//! compile the same source over loom's, which tries every order in which threads can meet.

pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, Mutex, MutexGuard};

//! How many connections and files the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as the system lets a process raise its own.
///
/// Systems start processes with a soft limit of 1024, so that programs which use select(2) do not
/// break. We do not use it, and every request through a gateway takes two descriptors.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    // A system that refuses leaves it as it is: further connections then wait to be accepted.
    let _ = setrlimit(Resource::Nofile, raised);
}

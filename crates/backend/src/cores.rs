//! Which cores this process may use, and threads that are bound to one.
//!
//! A thread that is bound keeps what its core has cached, and no other core waits for it; it also
//! waits for its core while others are idle. So it is worth trying where a process has its cores
//! for itself, as containers with a set of cores of their own have. Where a container has a share
//! of all cores instead, every one of them would bind its threads to the same first ones.

use std::io;
use std::num::NonZeroUsize;
use std::thread;

/// Where threads run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pinning {
    /// Where the system puts them.
    #[default]
    None,
    /// The threads of a session's own pool are bound to these cores, one after the other and then
    /// from the beginning. The first is that of the thread that makes the runs, which binds itself
    /// by [`pin_current_thread`]. Without effect where a session has no pool of its own.
    Cores(Vec<usize>),
}

/// The cores that a process may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cores {
    /// Their numbers, as the system counts them; empty where it does not tell.
    pub numbers: Vec<usize>,
    /// As how many of them it may keep busy, to the nearest whole one below and at least one: by
    /// their number and by a quota of its control group, where it has one.
    pub parallelism: NonZeroUsize,
}

impl Cores {
    /// Those of this process. To be called before threads are bound, or from one that is not: a
    /// thread that is bound to one core takes that for all there is.
    pub fn of_process() -> Self {
        Self {
            numbers: allowed(),
            // By affinity, and by the quotas of both versions of control groups, up to the root
            // of what this process can see.
            parallelism: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        }
    }
}

/// Binds the calling thread to a core. Threads that it starts from then on are bound likewise, so
/// a thread that loads models is not to be bound: their pools would be too.
///
/// # Errors
/// The system's: there is no such core, or this process may not use it; or that there is no way
/// to bind a thread here.
pub fn pin_current_thread(core: usize) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_setaffinity};
        if core >= CpuSet::MAX_CPU {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no such core"));
        }
        let mut set = CpuSet::new();
        set.set(core);
        sched_setaffinity(None, &set)?;
        Ok(())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = core;
        Err(io::Error::new(io::ErrorKind::Unsupported, "threads cannot be bound on this system"))
    }
}

/// The numbers of the cores that the calling thread may use.
fn allowed() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity};
        sched_getaffinity(None).map_or_else(
            |_| Vec::new(),
            |set| (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect(),
        )
    }
    #[cfg(not(target_os = "linux"))]
    Vec::new()
}

impl Pinning {
    /// The cores of a pool of so many threads, the caller's own included, in the engine's
    /// notation: one entry for each thread that the pool has beside that, counted from 1.
    pub(crate) fn of_pool(&self, threads: NonZeroUsize) -> Option<String> {
        let Self::Cores(cores) = self else { return None };
        let others = cores.iter().cycle().skip(1).take(threads.get() - 1);
        let entries = others.map(|core| (core + 1).to_string()).collect::<Vec<_>>();
        (!entries.is_empty()).then(|| entries.join(";"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_a_pool_take_the_cores_in_turn() {
        let threads = |count| NonZeroUsize::new(count).unwrap();
        let two = Pinning::Cores(vec![4, 7]);
        for (pinning, count, expected) in [
            (&two, 1, None),
            (&two, 2, Some("8")),
            (&two, 4, Some("8;5;8")),
            (&Pinning::Cores(vec![0]), 3, Some("1;1")),
            (&Pinning::Cores(vec![]), 3, None),
            (&Pinning::None, 3, None),
        ] {
            assert_eq!(pinning.of_pool(threads(count)).as_deref(), expected, "{pinning:?} {count}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_is_bound_and_its_process_is_not() {
        let cores = Cores::of_process();
        assert!(cores.parallelism.get() <= cores.numbers.len(), "{cores:?}");
        for &core in &cores.numbers {
            let bound = thread::spawn(move || {
                pin_current_thread(core).unwrap();
                // What std and the engine find out about cores follows from it.
                (allowed(), thread::spawn(allowed).join().unwrap(), Cores::of_process().parallelism)
            });
            let alone = vec![core];
            assert_eq!(bound.join().unwrap(), (alone.clone(), alone, NonZeroUsize::MIN));
        }
        assert_eq!(Cores::of_process(), cores);
        let missing = rustix::thread::CpuSet::MAX_CPU - 1;
        assert!(!cores.numbers.contains(&missing));
        for core in [missing, usize::MAX] {
            assert!(thread::spawn(move || pin_current_thread(core)).join().unwrap().is_err());
        }
    }
}

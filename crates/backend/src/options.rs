//! How one model is to be loaded, where it is to be otherwise than by default.

use std::num::NonZeroUsize;

use crate::{Device, Pinning};

/// How one model is to be loaded. The default is what suits a model of which nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// Where it runs; where `None`, where the backend runs every model.
    pub device: Option<Device>,
    /// How many threads run one operator, the caller's own included. Where set, each session of
    /// the model has a pool of its own of that size (1: no pool at all); where `None`, all
    /// sessions of the process share one.
    pub intra_op_threads: Option<NonZeroUsize>,
    /// How many operators run beside each other in [`ExecutionMode::Parallel`]; where `None`, as
    /// many as the engine finds good. Without effect in any other mode.
    pub inter_op_threads: Option<NonZeroUsize>,
    /// Whether branches of the graph run beside each other.
    pub execution_mode: ExecutionMode,
    /// How far the engine may rewrite the graph.
    pub optimization: GraphOptimization,
    /// What becomes of the memory that a run has used.
    pub arena: Arena,
    /// Where the threads of the session's own pool run.
    pub pinning: Pinning,
}

/// Whether operators of one run wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ExecutionMode {
    /// One operator after the other.
    #[default]
    Sequential,
    /// Branches of the graph beside each other, on threads of the session's own.
    Parallel,
}

/// How far the engine may rewrite a graph; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GraphOptimization {
    /// Not at all.
    Disable,
    /// Constants folded, what is redundant left out.
    Basic,
    /// Operators fused into larger ones.
    Extended,
    /// Everything, changes of the memory layout included.
    #[default]
    All,
}

/// What becomes of the memory that a run on the CPU has used, once the run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Arena {
    /// The session keeps it for its next run, until the session is dropped.
    #[default]
    Keep,
    /// The session gives back after each run what it took beyond its first piece. A run that
    /// needs much memory pays for it: magika with 8 rows took 159 ms where it took 84. After a
    /// run of 32 rows the process had 45 MiB where it had 173.
    Shrink,
    /// There is no arena: every tensor is allocated and freed by itself, and it is for the
    /// system's allocator to keep or to give back.
    Off,
}

impl LoadOptions {
    /// The options that can change an answer, if only in its last bit, as one line of text:
    /// where two texts are equal, so are the answers. For keys under which answers are kept.
    ///
    /// Device and graph choose other kernels, and a sum that is split over another number of
    /// threads is rounded otherwise. The order of operators, where memory comes from and where
    /// threads run change nothing.
    pub fn fingerprint(&self) -> String {
        let device = self.device.map_or_else(|| "default".to_owned(), |device| device.to_string());
        let threads = self.intra_op_threads.map_or(0, NonZeroUsize::get);
        let optimization = self.optimization.name();
        format!("device={device} intra_op_threads={threads} optimization={optimization}")
    }

    /// Whether a session needs threads of its own.
    pub(crate) fn needs_own_threads(&self) -> bool {
        self.intra_op_threads.is_some() || self.execution_mode == ExecutionMode::Parallel
    }
}

impl GraphOptimization {
    /// The name, as configuration has it: `disable`, `basic`, `extended` or `all`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Basic => "basic",
            Self::Extended => "extended",
            Self::All => "all",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_answers_changes_the_fingerprint_and_nothing_else_does() {
        let plain = LoadOptions::default();
        // Spelt out: the text must stay what it is for keys to stay what they are.
        assert_eq!(plain.fingerprint(), "device=default intra_op_threads=0 optimization=all");
        for changed in [
            LoadOptions { device: Some(Device::Cpu), ..plain.clone() },
            LoadOptions { device: Some(Device::Cuda(1)), ..plain.clone() },
            LoadOptions { intra_op_threads: NonZeroUsize::new(1), ..plain.clone() },
            LoadOptions { optimization: GraphOptimization::Basic, ..plain.clone() },
        ] {
            assert_ne!(changed.fingerprint(), plain.fingerprint());
        }
        for same in [
            LoadOptions { inter_op_threads: NonZeroUsize::new(2), ..plain.clone() },
            LoadOptions { execution_mode: ExecutionMode::Parallel, ..plain.clone() },
            LoadOptions { arena: Arena::Shrink, ..plain.clone() },
            LoadOptions { pinning: Pinning::Cores(vec![0]), ..plain.clone() },
        ] {
            assert_eq!(same.fingerprint(), plain.fingerprint());
        }
    }
}

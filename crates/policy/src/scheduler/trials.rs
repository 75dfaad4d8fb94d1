//! Batches that are larger than seems best, made now and then to find out whether they are.
//!
//! A size that was slow while the machine was busy with other things would otherwise not run again,
//! and never be known better.

/// When the next of them is due.
#[derive(Debug, Default)]
pub(super) struct Trials {
    /// Batches since the last one that were smaller than they could have been.
    restrained: u32,
}

impl Trials {
    /// So many restrained batches come before one that is larger.
    const AFTER: u32 = 128;

    pub(super) fn is_due(&self) -> bool {
        self.restrained >= Self::AFTER
    }

    /// A batch of up to so many rows leaves, of as many as `most` that it could have had. Where a
    /// trial was due and this one could grow, that was it.
    pub(super) fn dispatched(&mut self, rows: usize, most: usize) {
        if self.is_due() && most > 1 {
            self.restrained = 0;
        } else if rows < most {
            self.restrained += 1;
        }
    }
}

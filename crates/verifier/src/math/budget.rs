//! A count of work instead of a clock: the same input always stops at the same place.
//!
//! A step is about 20 ns of work on a desktop processor. Every loop whose length an input decides
//! takes steps, and work on large integers takes steps by their size, so [`Budget::LIMIT`] bounds the
//! time of a verdict without a clock, a signal or a thread.

/// What is left of a verdict's work.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    left: u64,
}

impl Budget {
    /// Steps of one comparison, parsing and extraction included.
    pub(crate) const LIMIT: u64 = 100_000;

    /// A full budget.
    pub(crate) fn new() -> Budget {
        Budget { left: Budget::LIMIT }
    }

    /// Takes steps; none once they are used up, and from then on.
    pub(crate) fn take(&mut self, steps: u64) -> Option<()> {
        match self.left.checked_sub(steps) {
            Some(left) => {
                self.left = left;
                Some(())
            }
            None => {
                self.left = 0;
                None
            }
        }
    }

    /// Whether some step was refused, or the next would be.
    pub(crate) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Steps taken so far.
    pub(crate) fn used(&self) -> u64 {
        Budget::LIMIT - self.left
    }
}

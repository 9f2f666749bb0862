//! What came of it: success counts, pass@k, their intervals, and runs compared at equal compute.
//!
//! Invariants: successes and attempts are always kept both; an interval is over problems, never over
//! completions of one problem; two runs are compared by the FLOPs they used, collection included.

pub mod bootstrap;
pub mod compare;
pub mod count;
pub mod keywords;
pub mod pass_at_k;
pub mod prefix_sweep;

pub use bootstrap::{Interval, bootstrap_mean};
pub use count::{CountError, CountPlan, ProblemCount, count_successes};
pub use pass_at_k::{PassAtK, pass_at_k, pass_at_k_over_problems};

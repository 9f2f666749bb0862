//! What came of it: success counts, pass@k, votes, robustness to prefixes, drift and likelihood of stored
//! traces, strategies that are spoken of, answers that are guessed, and runs compared at equal compute.
//!
//! Invariants: successes and attempts are always kept both; an interval is over problems, never over
//! completions of one problem; two runs are compared by the FLOPs they used, collection included.

pub mod answers;
pub mod bootstrap;
pub mod compare;
pub mod confidence;
pub mod count;
pub mod drift;
pub mod guessing;
pub mod keywords;
pub mod likelihood;
pub mod majority;
pub mod online;
pub mod pass_at_k;
pub mod prefix_sweep;
pub mod robustness;
pub mod underthinking;

pub use bootstrap::{Interval, bootstrap_mean};
pub use count::{CountError, CountPlan, ProblemCount, count_successes, sample_each};
pub use pass_at_k::{PassAtK, pass_at_k, pass_at_k_over_problems};

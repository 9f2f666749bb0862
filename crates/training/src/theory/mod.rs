//! The theory of PrefixRL, made to run: how many completions until the reward is there, by horizon.
//!
//! [`hidden_string`] is the instance of Proposition 3.4, [`npg`] the two methods on it, [`bounds`] what
//! the paper proves about them, [`mod@growth`] the question exponential or polynomial, and [`mod@separation`]
//! puts these together over horizons and seeds. PrefixRL is arXiv 2601.18795; numbers of equations and
//! theorems are its own.
//!
//! Invariants: rewards are computed, never estimated from draws; every run has a stream of its own,
//! named by method, alphabet, horizon and seed, so a row does not depend on the rows beside it.

pub mod hidden_string;

pub mod npg;

pub mod bounds;

pub mod growth;

pub mod separation;

pub use growth::{Growth, Shape};
pub use hidden_string::HiddenString;
pub use separation::{Row, Separation, Settings, SettingsError, Spread, separation};

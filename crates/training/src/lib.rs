//! Objectives, curricula, the training loop, evaluation and recipes, in plain numbers.
//!
//! Every method is a pair: where does a rollout start ([`curriculum`]) and how much does each
//! sampled token count ([`objective`]). [`trainer`] puts a pair to work on anything that samples and
//! learns, [`detector`] looks for shortcuts, [`evaluation`] says what came of it, and [`recipe`] is how a person writes it down.
//! [`tabular`] is a policy small enough to check all of that against exact expectations, and [`theory`]
//! shows on it what the papers prove.
//!
//! Invariants: no tensor, no terminal, no network and no clock; `objective`, `curriculum`, `evaluation`
//! and `detector` do not know each other, `trainer` knows the four, and `recipe` is read by all and
//! reads none; what several of them count or draw is in [`ngrams`] and [`random`]. All randomness derives from a seed and from what it is for, never from what came
//! before, so any stage can be stopped and continued to the same bits.
#![cfg_attr(test, allow(clippy::unwrap_used))] // A test that unwraps fails, which is its purpose.

pub mod recipe;

pub mod objective;

pub mod curriculum;

pub mod evaluation;

pub mod detector;

pub mod trainer;

pub mod tabular;

pub mod random;

pub mod ngrams;

pub mod theory;

pub use curriculum::{Curriculum, CurriculumKind};
pub use objective::Objective;
pub use recipe::{Recipe, RecipeError};
pub use trainer::{Event, Listener, train};

/// A recipe in which every value is explicit.
pub type Plan = recipe::Plan<Objective, CurriculumKind>;

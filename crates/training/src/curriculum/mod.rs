//! Where rollouts start.
//!
//! A curriculum chooses the starts of a step, is told what came of each group, and says why it chose
//! what it chose. It never sees a token probability or an advantage.
//!
//! Invariants: the starts of step `s` depend on the seed, the material and the groups observed before
//! `s`, on nothing else; [`Curriculum::state`] is all that has to be kept to go on exactly.
//!
//! A new curriculum is its file and its line in the table below.

pub mod cut;
mod cycle;
mod faded;
mod guidance;
mod kept;
#[cfg(test)]
pub(crate) mod simulation;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use toehold_rollout::store::StoredTrace;
use toehold_rollout::{Origin, ProblemId, Start, StopReason, SuccessCount, TokenId};
use toehold_verifier::Verifier;

pub use cycle::Cycle;

use crate::random;
use crate::recipe::{Listing, Method, RecipeError};

/// Chooses starts and learns from what came of them.
pub trait Curriculum {
    /// The starts of the next `count` groups, each with the reason for it.
    fn next(&mut self, count: usize) -> Vec<Selection>;

    /// Hears what came of one group, and says what becomes of it; called once per selection, in their
    /// order, before anything is learnt from them.
    fn observe(&mut self, selection: &Selection, outcome: GroupOutcome) -> Fate;

    /// More starts for the same step, asked for when all groups so far were heard, until there are none.
    /// A curriculum that gives any bounds their number itself.
    fn again(&mut self) -> Vec<Selection> {
        Vec::new()
    }

    /// All that [`restore`](Self::restore) needs to go on exactly.
    fn state(&self) -> Value;

    /// Goes on where `state` was taken, given the same material, settings and seed.
    ///
    /// # Errors
    /// A state of another curriculum or of other material; nothing is then changed.
    fn restore(&mut self, state: &Value) -> Result<(), RestoreError>;

    /// Numbers that are worth a curve, by name.
    fn metrics(&self) -> BTreeMap<String, f64>;
}

/// A start that was chosen, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Where the group's rollouts begin.
    pub start: Arc<Start>,
    /// The reason in a few words, for the record of the run.
    pub why: String,
    /// The temperature that this group is sampled at, above 0; none for the run's own.
    pub temperature: Option<f32>,
}

impl Selection {
    /// This start at the run's own temperature.
    pub fn new(start: Arc<Start>, why: String) -> Selection {
        Selection { start, why, temperature: None }
    }
}

/// What came of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupOutcome {
    /// Its successes and attempts.
    pub count: SuccessCount,
    /// Tokens of all its completions.
    pub completion_tokens: u64,
}

impl GroupOutcome {
    /// Whether its rewards differ, so that a baseline of the group leaves something.
    pub fn is_mixed(&self) -> bool {
        self.count.successes > 0 && self.count.successes < self.count.attempts
    }
}

/// What becomes of a group that was sampled. It is stored and paid for in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is learnt from, and counts in what the batch is divided by.
    #[default]
    Learnt,
    /// The batch is as if it had not been sampled.
    Dropped,
}

/// What a curriculum can be built from.
#[derive(Clone, Debug, Default)]
pub struct Material {
    /// One plain start per problem.
    pub plain: Vec<Start>,
    /// Stored traces to cut prefixes from, in any order and number per problem.
    pub sources: Vec<Source>,
    /// The problems' own worked solutions, at most one each.
    pub solutions: Vec<Source>,
    /// The problems with their cue in the prompt ([`nurl::with_cue`]), at most one each.
    pub cues: Vec<Start>,
}

/// A stored trace as something to cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Its problem.
    pub problem: ProblemId,
    /// The problem in tokens, after the template.
    pub prompt: Vec<TokenId>,
    /// The trace's own prefix and completion.
    pub tokens: Vec<TokenId>,
    /// Its row in the store; none for the problem's own solution.
    pub row: Option<i64>,
    /// Whether the verifier accepted it.
    pub is_correct: bool,
    /// No prefix may be longer: the tokens before the answer appears ([`cut::answer_limit`]); 0 for a
    /// failure that only ran out of tokens, whose reasoning nothing is known against.
    pub limit: usize,
    /// Cuts that fall inside a character, in rising order ([`cut::inside_characters`]): no prefix ends there.
    pub inside: Vec<usize>,
}

/// Turns tokens into text; special tokens that mean something within an answer, such as the end of a thought,
/// are written out.
pub type Decode<'a> = &'a dyn Fn(&[TokenId]) -> String;

/// What a curriculum is built of beside the plain problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traces {
    /// Nothing.
    None,
    /// The problems' own solutions; nothing needs to be collected.
    Solutions,
    /// The problems' own cues; nothing needs to be collected.
    Cues,
    /// The collected traces that the verifier accepted.
    Correct,
    /// All collected traces: failures too, or counts of both.
    All,
}

impl Traces {
    /// Whether any have to be collected before the first step.
    pub fn are_collected(self) -> bool {
        matches!(self, Traces::Correct | Traces::All)
    }
}

impl Source {
    /// A trace of the store, whose problem has this verifier; `decode` turns its tokens into text.
    pub fn of_stored(stored: &StoredTrace, verifier: Verifier, decode: Decode<'_>) -> Source {
        let trace = &stored.trace;
        let tokens: Vec<TokenId> = trace.prefix.iter().chain(&trace.completion.tokens).copied().collect();
        let is_correct = stored.verdict.outcome.is_correct();
        let limit = match trace.completion.stop {
            StopReason::Length if !is_correct => 0,
            _ => cut::answer_limit(verifier, &tokens, decode),
        };
        Source {
            problem: stored.problem.clone(),
            prompt: trace.prompt.clone(),
            row: Some(stored.row),
            is_correct,
            limit,
            inside: cut::inside_characters(&tokens, decode),
            tokens,
        }
    }

    /// A problem's worked solution in tokens, which the verifier accepts.
    pub fn of_solution(start: &Start, tokens: Vec<TokenId>, verifier: Verifier, decode: Decode<'_>) -> Source {
        let limit = cut::answer_limit(verifier, &tokens, decode);
        let inside = cut::inside_characters(&tokens, decode);
        let (problem, prompt) = (start.problem.clone(), start.prompt.clone());
        Source { problem, prompt, tokens, row: None, is_correct: true, limit, inside }
    }

    /// A trace that the verifier accepted and that may be cut anywhere.
    pub fn uncut(problem: ProblemId, prompt: Vec<TokenId>, tokens: Vec<TokenId>, row: Option<i64>) -> Source {
        let limit = tokens.len();
        Source { problem, prompt, tokens, row, is_correct: true, limit, inside: Vec::new() }
    }

    /// A number drawn for this trace by its problem and tokens, whatever its row; `purpose` names the draw.
    fn lot(&self, purpose: &str, seed: u64) -> u64 {
        let tokens: Vec<u64> = self.tokens.iter().map(|&token| u64::from(token)).collect();
        random::seed_for(seed, &format!("{purpose} {}", self.problem.as_str()), &tokens)
    }

    /// The start that gives the first `length` of its tokens, at most all; fewer where the last character
    /// would not be whole.
    pub fn start(&self, length: usize) -> Start {
        let length = cut::whole(&self.inside, length.min(self.tokens.len()));
        let origin = Origin { trace: self.row, source_tokens: self.tokens.len() as u32 };
        Start::prefixed(self.problem.clone(), self.prompt.clone(), self.tokens[..length].to_vec(), origin)
    }
}

/// Why a curriculum cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is nothing to choose from.
    #[error("the curriculum has no start: {plain} plain problems, {prefixed} prefixes, plain_share {plain_share}")]
    NoStart {
        /// Plain starts given.
        plain: usize,
        /// Prefixes that could be cut.
        prefixed: usize,
        /// The share of plain starts asked for.
        plain_share: f64,
    },
    /// There is no worked solution to give a part of.
    #[error(
        "no guidance can be given: of {problems} problems, {without_solution} have no worked solution, \
         {uncuttable} have one that answers at once\n\
         hint: add `solution` to the problems, or choose a curriculum that cuts sampled traces"
    )]
    NoSolution {
        /// Plain problems given.
        problems: usize,
        /// Those without a solution.
        without_solution: usize,
        /// Those whose solution cannot be cut before its answer.
        uncuttable: usize,
    },
    /// There is no cue to show.
    #[error(
        "no cue can be shown: none of {problems} problems has one\n\
         hint: add `cue` to the problems; the chain family makes cues where it has two methods"
    )]
    NoCue {
        /// Plain problems given.
        problems: usize,
    },
    /// There is no pair to make.
    #[error(
        "no pair can be made: of {problems} problems, {hard} are hard but solvable, {brittle} easy but brittle\n\
         hint: collect more (until = \"max-attempts\"), or widen [curriculum] hard and brittle"
    )]
    NoPair {
        /// Plain problems given.
        problems: usize,
        /// Those with a success, and few.
        hard: usize,
        /// Those with a failure, and few.
        brittle: usize,
    },
    /// There is no failure to begin from, or no plain problem to end with.
    #[error(
        "no failure prefix can be cut: of {problems} problems, {unsaturated} are solved too rarely, \
         {without_failure} have no failure, {uncuttable} none that can be cut\n\
         hint: collect more (until = \"max-attempts\"), or lower [curriculum] saturated"
    )]
    NoFailure {
        /// Plain problems given.
        problems: usize,
        /// Those outside the band of success.
        unsaturated: usize,
        /// Those in which every collected trace is correct, or that have none.
        without_failure: usize,
        /// Those whose failures ran out of tokens or answer at once.
        uncuttable: usize,
    },
}

/// Why a state cannot be restored.
#[derive(Debug, thiserror::Error)]
#[error("the curriculum's state does not fit: {reason}")]
pub struct RestoreError {
    /// What is wrong with it.
    pub reason: String,
}

macro_rules! curricula {
    ($(
        $(#[doc = $summary:literal])+
        $module:ident::$settings:ident { name: $name:literal, paper: $paper:literal, recipe: $recipe:literal },
    )+) => {
        $(pub mod $module;)+

        /// The curriculum of a run with its settings; in a recipe, the table `[curriculum]`.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum CurriculumKind {
            $($(#[doc = $summary])+ #[serde(rename = $name)] $settings($module::$settings),)+
        }

        impl Method for CurriculumKind {
            const SECTION: &'static str = "curriculum";
            const KINDS: &'static [&'static str] = &[$($name),+];
            const LISTED: &'static [Listing] = &[$(Listing {
                name: $name,
                lines: &[$($summary),+],
                paper: $paper,
                recipe: $recipe,
                settings: $module::$settings::SETTINGS,
            }),+];

            fn read(kind: &str, table: toml::Table) -> Result<CurriculumKind, RecipeError> {
                match kind {
                    $($name => $module::$settings::read(table, Self::SECTION)
                        .and_then(|settings| settings.checked())
                        .map(CurriculumKind::$settings),)+
                    _ => Err(RecipeError::unknown_kind(Self::SECTION, kind, Self::KINDS)),
                }
            }
        }

        impl CurriculumKind {
            /// The traces that [`build`](Self::build) asks for.
            pub fn traces(&self) -> Traces {
                match self { $(CurriculumKind::$settings(_) => $module::$settings::TRACES,)+ }
            }

            /// Builds the curriculum from what there is.
            ///
            /// # Errors
            /// When nothing is left to choose from.
            pub fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
                match self { $(CurriculumKind::$settings(settings) => settings.build(material, seed),)+ }
            }
        }
    };
}

curricula! {
    /// Every problem without a prefix, in epochs.
    plain::Plain { name: "plain", paper: "baseline", recipe: "plain-rl" },
    /// Prefixes of rare successes beside plain problems: PrefixRL.
    success_prefix::SuccessPrefix { name: "success-prefix", paper: "arXiv 2601.18795", recipe: "prefix-rl" },
    /// Prefixes of rare failures, cut where about half of the rollouts recover.
    failure_prefix::FailurePrefix { name: "failure-prefix", paper: "arXiv 2601.20829", recipe: "failure-prefix" },
    /// Plain problems, sampled again until enough groups are mixed: DAPO's.
    dynamic_sampling::DynamicSampling { name: "dynamic-sampling", paper: "arXiv 2503.14476", recipe: "dynamic-sampling" },
    /// Every group where it is expected to teach the most per token: our own.
    foothold::Foothold { name: "foothold", paper: "ours", recipe: "foothold" },
    /// More and more of the solution where a group failed, within the step: GHPO.
    ghpo::Ghpo { name: "ghpo", paper: "arXiv 2507.10628", recipe: "ghpo" },
    /// Half of the solution for every problem, then a quarter: QuestA.
    questa::Questa { name: "questa", paper: "arXiv 2507.13266", recipe: "questa" },
    /// The shortest part of the solution that helps, beside the plain problem: POPE.
    pope::Pope { name: "pope", paper: "arXiv 2601.18779", recipe: "pope" },
    /// A cue after the statement where a group failed, within the step: NuRL.
    nurl::Nurl { name: "nurl", paper: "arXiv 2509.25666", recipe: "nurl" },
    /// A binary search, where a group failed, for the part of the solution that it needs: BREAD.
    bread::Bread { name: "bread", paper: "arXiv 2506.17211", recipe: "bread" },
    /// A random binary search per problem that goes on for ever: AdaBack.
    adaback::AdaBack { name: "adaback", paper: "arXiv 2506.18110", recipe: "adaback" },
    /// The part of the solution from which half of the rollouts succeed, per problem: AdaPrefix.
    adaprefix::AdaPrefix { name: "adaprefix", paper: "arXiv 2607.07674", recipe: "adaprefix" },
    /// One length of guidance that follows changes of success: G²RPO-A.
    g2rpo_a::G2rpoA { name: "g2rpo-a", paper: "arXiv 2508.13023", recipe: "g2rpo-a" },
    /// Starts from the end of the solution to its beginning, mixed or in stages: R3.
    reverse_curriculum::ReverseCurriculum { name: "reverse-curriculum", paper: "arXiv 2402.05808", recipe: "reverse-curriculum" },
    /// Pairs of a hard problem that is solvable and an easy one that is brittle.
    pairing::Pairing { name: "pairing", paper: "arXiv 2602.03452", recipe: "pairing" },
    /// Problems that are always solved come back at a rising temperature: ERPO's residual prompts.
    residual::Residual { name: "residual", paper: "arXiv 2511.04800", recipe: "residual" },
    /// Plain problems of medium success, and some others to see what has become of them.
    difficulty_pool::DifficultyPool { name: "difficulty-pool", paper: "ours", recipe: "difficulty-pool" },
    /// Another problem with its correct trace before the problem.
    in_context::InContext { name: "in-context", paper: "ours", recipe: "in-context" },
}

/// A setting out of its range.
fn refuse<T>(key: &'static str, found: impl Display, expected: &'static str) -> Result<T, RecipeError> {
    Err(RecipeError::OutOfRange { section: "curriculum", key, found: found.to_string(), expected })
}

/// Metrics under the names that they have in events.
fn named<const N: usize>(values: [(&str, f64); N]) -> BTreeMap<String, f64> {
    values.into_iter().map(|(name, value)| (format!("curriculum/{name}"), value)).collect()
}

/// Reads the count `taken` from a state whose `pool` has to be `expected`.
fn restored(state: &Value, pool: &str, expected: usize, taken: &str) -> Result<u64, RestoreError> {
    let number = |key: &str| {
        state.get(key).and_then(Value::as_u64).ok_or_else(|| RestoreError { reason: format!("`{key}` is no count") })
    };
    let found = number(pool)?;
    if found != expected as u64 {
        return Err(RestoreError { reason: format!("`{pool}` is {found}, expected {expected}") });
    }
    number(taken)
}

#[cfg(test)]
pub(crate) mod tests {
    use toehold_rollout::{ProblemId, Start};

    use super::{Selection, Source};

    pub(crate) fn plain_starts(count: u32) -> Vec<Start> {
        (0..count).map(|at| Start::plain(ProblemId::from(format!("p{at}")), vec![at])).collect()
    }

    /// One correct trace of `length` tokens for each of the first `count` problems.
    pub(crate) fn sources(count: u32, length: u32, limit: usize) -> Vec<Source> {
        let source = |at: u32| Source {
            problem: ProblemId::from(format!("p{at}")),
            prompt: vec![at],
            tokens: (0..length).map(|token| 100 * at + token).collect(),
            row: Some(i64::from(at) + 1),
            is_correct: true,
            limit,
            inside: Vec::new(),
        };
        (0..count).map(source).collect()
    }

    pub(crate) fn ids(selections: &[Selection]) -> Vec<String> {
        selections.iter().map(|selection| format!("{} {}", selection.start.id, selection.why)).collect()
    }
}

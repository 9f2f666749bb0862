//! On-policy NPG against PrefixRL-NPG over horizons and seeds, with the bounds beside.
//!
//! Each (horizon, seed) hides one string, and both methods are run on it with the same settings: same
//! completions per update, same step size, same target, same cap. What is counted is completions;
//! PrefixRL's are shorter, which is not held in its favour.
//!
//! What is not counted is where the trace comes from. By luck under the uniform policy it takes Aᴴ tries
//! on average ([`Row::trace_by_luck`]), which is what on-policy NPG pays, too. So on this instance prefixes
//! save nothing against a trace that has yet to be found in the same way: the separation is about traces
//! that are there already.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::bounds::{self, Convention, Premise};
use super::growth::{Growth, growth};
use super::hidden_string::HiddenString;
use super::npg::{self, Npg, Starts};
use crate::random;

/// What is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// H: lengths of the hidden string, from 1 to [`LONGEST`].
    pub horizons: Vec<u32>,
    /// A: actions in each state, from 2 to [`LARGEST`].
    pub alphabet: u32,
    /// The expected reward to reach, above 0 and below 1.
    pub target: f64,
    /// Runs of each method at each horizon, with seeds 0, 1, …; at least 1.
    pub seeds: u32,
    /// The most completions of a run, at least 1.
    pub cap: u64,
    /// N: completions per update, at least 1.
    pub per_update: u32,
    /// η: the step size of the natural gradient, above 0 and finite.
    pub rate: f64,
    /// m: how often PrefixRL's first action is the trace's own, in `[0, 1]`.
    pub mixing: f64,
}

/// The longest horizon: 2 to this power still is a number.
pub const LONGEST: u32 = 1_000;
/// The largest alphabet.
pub const LARGEST: u32 = 1_000;
/// δ of the printed upper bound.
pub const FAILURE: f64 = 0.05;
/// The upper bound's critic is chosen from all tables over the A · H pairs on the string whose entries are
/// whole hundredths: 101 values each.
const GRID: f64 = 101.0;

/// One horizon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// H.
    pub horizon: u32,
    /// Completions that on-policy NPG took.
    pub on_policy: Spread,
    /// Completions that PrefixRL-NPG took.
    pub prefix_rl: Spread,
    /// Below this the median of no method without a stored trace can be (Proposition 3.4). A method whose
    /// runs are at the target half of the time has an expected reward of half the target at least.
    pub lower_bound: f64,
    /// With so many PrefixRL-NPG is at the target with probability 1 − δ (Theorem 3.3, with the factor H
    /// that follows); none where the theorem promises nothing.
    pub upper_bound: Option<f64>,
    /// The same as the paper prints it, without the factor.
    pub upper_bound_as_printed: Option<f64>,
    /// Aᴴ: tries that finding the trace by luck takes on average.
    pub trace_by_luck: f64,
}

/// Completions over the runs of one method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// The median; none where half of the runs or more did not get there.
    pub median: Option<u64>,
    /// The lower quartile.
    pub low: Option<u64>,
    /// The upper quartile.
    pub high: Option<u64>,
    /// Runs that got there within the cap.
    pub reached: u32,
    /// All runs.
    pub runs: u32,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Separation {
    /// What was to be run, its horizons sorted and each once.
    pub settings: Settings,
    /// One row per horizon; fewer where the listener ended it.
    pub rows: Vec<Row>,
    /// Growth of on-policy NPG's medians; none with fewer than three.
    pub on_policy: Option<Growth>,
    /// Growth of PrefixRL-NPG's.
    pub prefix_rl: Option<Growth>,
    /// The first horizon from which the lower bound stays above the upper one, so that the proofs alone
    /// tell the two methods apart.
    pub bounds_cross: Option<u32>,
}

/// How far the work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Runs that have ended.
    pub runs: u64,
    /// The horizon of the current one.
    pub horizon: u32,
    /// Completions so far, over all runs.
    pub completions: u64,
}

/// What cannot be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// No horizon at all.
    #[error("there is no horizon, expected at least one")]
    NoHorizon,
    /// A number out of its range.
    #[error("{what} is {given}, expected {expected}")]
    OutOfRange {
        /// The setting.
        what: &'static str,
        /// What was given.
        given: f64,
        /// What would do.
        expected: &'static str,
    },
}

impl Settings {
    /// Checks every range.
    ///
    /// # Errors
    /// The first number that is out of its range.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.horizons.is_empty() {
            return Err(SettingsError::NoHorizon);
        }
        let horizons = self.horizons.iter().map(|&horizon| {
            let fits = (1..=LONGEST).contains(&horizon);
            ("the horizon", f64::from(horizon), fits, "1 to 1,000")
        });
        let others = [
            ("the alphabet", f64::from(self.alphabet), (2..=LARGEST).contains(&self.alphabet), "2 to 1,000"),
            ("the target", self.target, self.target > 0.0 && self.target < 1.0, "above 0 and below 1"),
            ("the number of seeds", f64::from(self.seeds), self.seeds > 0, "at least 1"),
            ("the cap", self.cap as f64, self.cap > 0, "at least 1"),
            ("the completions per update", f64::from(self.per_update), self.per_update > 0, "at least 1"),
            ("the rate", self.rate, self.rate > 0.0 && self.rate.is_finite(), "above 0 and finite"),
            ("the mixing", self.mixing, (0.0..=1.0).contains(&self.mixing), "0 to 1"),
        ];
        match horizons.chain(others).find(|(_, _, fits, _)| !fits) {
            None => Ok(()),
            Some((what, given, _, expected)) => Err(SettingsError::OutOfRange { what, given, expected }),
        }
    }

    /// Runs of both methods at all horizons, each horizon counted once.
    pub fn runs(&self) -> u64 {
        2 * u64::from(self.seeds) * self.distinct().len() as u64
    }

    fn distinct(&self) -> Vec<u32> {
        let mut horizons = self.horizons.clone();
        horizons.sort_unstable();
        horizons.dedup();
        horizons
    }

    fn premise(&self, horizon: u32, convention: Convention) -> Premise {
        let (alphabet, mixing, failure) = (self.alphabet, self.mixing, FAILURE);
        let log_class = f64::from(alphabet) * f64::from(horizon) * GRID.ln();
        Premise { alphabet, horizon, mixing, failure, log_class, convention }
    }

    fn lower_bound(&self, horizon: u32) -> f64 {
        bounds::least_completions(self.alphabet, horizon, self.target / 2.0)
    }

    fn upper_bound(&self, horizon: u32, convention: Convention) -> Option<f64> {
        bounds::enough_completions(&self.premise(horizon, convention), 1.0 - self.target)
    }
}

/// Runs everything; `heard` is told how far it is and may end it, which leaves the horizons before.
///
/// # Errors
/// Settings out of their range.
pub fn separation(
    settings: &Settings,
    heard: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Separation, SettingsError> {
    settings.check()?;
    let settings = Settings { horizons: settings.distinct(), ..settings.clone() };
    let mut progress = Progress { runs: 0, horizon: 0, completions: 0 };
    let mut rows = Vec::new();
    for &horizon in &settings.horizons {
        progress.horizon = horizon;
        match row(&settings, horizon, &mut progress, heard) {
            ControlFlow::Continue(row) => rows.push(row),
            ControlFlow::Break(()) => break,
        }
    }
    let fit = |spread: fn(&Row) -> Spread| {
        let point = |row: &Row| Some((row.horizon, spread(row).median? as f64));
        growth(&rows.iter().filter_map(point).collect::<Vec<_>>())
    };
    let (on_policy, prefix_rl) = (fit(|row| row.on_policy), fit(|row| row.prefix_rl));
    let bounds_cross = bounds_cross(&settings);
    Ok(Separation { settings, rows, on_policy, prefix_rl, bounds_cross })
}

fn row(
    settings: &Settings,
    horizon: u32,
    progress: &mut Progress,
    heard: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> ControlFlow<(), Row> {
    let mut spread = |purpose: &str, starts: Starts| {
        let npg = Npg { starts, per_update: settings.per_update, rate: settings.rate };
        let mut counts = Vec::new();
        for seed in 0..u64::from(settings.seeds) {
            let numbers = [u64::from(settings.alphabet), u64::from(horizon)];
            let mut rng = random::stream(seed, "hidden string", &numbers);
            let hidden = HiddenString::drawn(settings.alphabet, horizon, &mut rng);
            let mut rng = random::stream(seed, purpose, &numbers);
            let before = progress.completions;
            let mut within = |completions: u64| {
                progress.completions = before + completions;
                heard(*progress)
            };
            let reached = npg::run(&hidden, &npg, settings.target, settings.cap, &mut rng, &mut within)?;
            progress.completions = before + reached.completions.unwrap_or(settings.cap);
            progress.runs += 1;
            heard(*progress)?;
            counts.push(reached.completions);
        }
        ControlFlow::Continue(Spread::of(counts))
    };
    let prefix_rl = spread("PrefixRL-NPG", Starts::Prefixed { mixing: settings.mixing })?;
    let on_policy = spread("on-policy NPG", Starts::Plain)?;
    ControlFlow::Continue(Row {
        horizon,
        on_policy,
        prefix_rl,
        lower_bound: settings.lower_bound(horizon),
        upper_bound: settings.upper_bound(horizon, Convention::PerTrace),
        upper_bound_as_printed: settings.upper_bound(horizon, Convention::PerState),
        trace_by_luck: bounds::strings(settings.alphabet, horizon),
    })
}

impl Spread {
    /// Of one count per run, none for a run that did not get there: such a run is longer than all others.
    fn of(counts: Vec<Option<u64>>) -> Spread {
        let (runs, mut known) = (counts.len(), counts.into_iter().flatten().collect::<Vec<u64>>());
        known.sort_unstable();
        // The count below which a share of the other runs lies, the nearest one.
        let at = |share: f64| known.get(((runs.saturating_sub(1)) as f64 * share).round() as usize).copied();
        let (low, median, high) = (at(0.25), at(0.5), at(0.75));
        Spread { median, low, high, reached: known.len() as u32, runs: runs as u32 }
    }
}

fn bounds_cross(settings: &Settings) -> Option<u32> {
    let is_apart = |horizon: &u32| {
        let upper = settings.upper_bound(*horizon, Convention::PerTrace);
        upper.is_some_and(|upper| settings.lower_bound(*horizon) > upper)
    };
    (1..=LONGEST).rev().take_while(is_apart).last()
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use expect_test::{Expect, expect};

    use super::{Separation, Settings, Spread, separation};
    use crate::theory::Shape;

    fn settings(alphabet: u32, horizons: impl IntoIterator<Item = u32>) -> Settings {
        let horizons = horizons.into_iter().collect();
        let (target, seeds, cap, per_update, rate, mixing) = (0.5, 15, 1 << 20, 8, 2.0, 0.5);
        Settings { horizons, alphabet, target, seeds, cap, per_update, rate, mixing }
    }

    fn run(settings: &Settings) -> Separation {
        separation(settings, &mut |_| ControlFlow::Continue(())).unwrap()
    }

    #[test]
    fn on_policy_grows_by_the_alphabet_and_prefixes_by_a_power() {
        for (alphabet, horizons) in [(2, 4..=12), (3, 3..=9), (4, 2..=7)] {
            let found = run(&Settings { seeds: 41, ..settings(alphabet, horizons) });
            let (on_policy, prefix_rl) = (found.on_policy.unwrap(), found.prefix_rl.unwrap());
            let ratio = on_policy.factor / f64::from(alphabet);
            assert!((0.85..1.15).contains(&ratio), "{alphabet}: {on_policy:?}");
            assert_eq!(on_policy.shape(), Shape::Exponential, "{alphabet}: {on_policy:?}");
            assert!(prefix_rl.shape() != Shape::Exponential && prefix_rl.degree < 2.0, "{alphabet}: {prefix_rl:?}");
        }
        // Over a range wide enough to tell, the power fits better.
        let wide = Settings { cap: 1 << 14, ..settings(2, [4, 8, 16, 32, 64]) };
        let found = run(&wide).prefix_rl.unwrap();
        assert_eq!(found.shape(), Shape::Polynomial, "{found:?}");
        assert!(found.degree < 2.0, "{found:?}");
    }

    #[test]
    fn medians_keep_to_the_bounds() {
        for alphabet in [2, 3] {
            for row in run(&settings(alphabet, 1..=8)).rows {
                let median = |spread: Spread| spread.median.unwrap() as f64;
                assert!(median(row.on_policy) >= row.lower_bound, "{row:?}");
                assert!(median(row.prefix_rl) <= row.upper_bound_as_printed.unwrap(), "{row:?}");
                assert!(row.upper_bound_as_printed <= row.upper_bound, "{row:?}");
            }
        }
    }

    /// The bounds say the same of all horizons, measured or not.
    #[test]
    fn the_bounds_cross() {
        let found = run(&settings(2, [1]));
        let cross = found.bounds_cross.unwrap();
        let rows = run(&Settings { cap: 1, seeds: 1, ..settings(2, [cross - 1, cross]) }).rows;
        let apart: Vec<bool> = rows.iter().map(|row| row.lower_bound > row.upper_bound.unwrap()).collect();
        assert_eq!(apart, [false, true]);
        assert_eq!(run(&Settings { mixing: 0.0, ..settings(2, [1]) }).bounds_cross, None);
    }

    #[track_caller]
    fn check(counts: &[Option<u64>], expected: Expect) {
        let Spread { median, low, high, reached, runs } = Spread::of(counts.to_vec());
        expected.assert_eq(&format!("{low:?} {median:?} {high:?}, {reached} of {runs}"));
    }

    #[test]
    fn runs_that_did_not_get_there_are_the_longest() {
        check(&[Some(3), Some(1), Some(2), Some(5), Some(4)], expect!["Some(2) Some(3) Some(4), 5 of 5"]);
        check(&[None, Some(1), None, Some(2), Some(3)], expect!["Some(2) Some(3) None, 3 of 5"]);
        check(&[None, Some(1), None, Some(2), None], expect!["Some(2) None None, 2 of 5"]);
        check(&[None, None], expect!["None None None, 0 of 2"]);
        check(&[Some(9)], expect!["Some(9) Some(9) Some(9), 1 of 1"]);
        check(&[], expect!["None None None, 0 of 0"]);
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let both = run(&settings(2, [7, 4, 7]));
        assert_eq!(both.settings.horizons, [4, 7]);
        assert_eq!(both.rows[1], run(&settings(2, [7])).rows[0]);
    }

    #[test]
    fn a_listener_hears_every_run_and_may_end_it() {
        let settings = settings(2, [3, 4]);
        let mut runs = Vec::new();
        let ended = separation(&settings, &mut |progress| {
            runs.push(progress.runs);
            if progress.runs < settings.runs() - 1 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        // The second horizon's last run is missing.
        assert_eq!(ended.unwrap().rows.len(), 1);
        assert_eq!(runs, (1..settings.runs()).collect::<Vec<_>>());
    }

    #[track_caller]
    fn refused(change: impl Fn(&mut Settings), expected: Expect) {
        let mut settings = settings(2, [3]);
        change(&mut settings);
        let error = separation(&settings, &mut |_| ControlFlow::Continue(())).unwrap_err();
        expected.assert_eq(&error.to_string());
    }

    #[test]
    fn what_makes_no_sense() {
        refused(|s| s.horizons.clear(), expect!["there is no horizon, expected at least one"]);
        refused(|s| s.horizons.push(0), expect!["the horizon is 0, expected 1 to 1,000"]);
        refused(|s| s.horizons.push(2_000), expect!["the horizon is 2000, expected 1 to 1,000"]);
        refused(|s| s.alphabet = 1, expect!["the alphabet is 1, expected 2 to 1,000"]);
        refused(|s| s.target = 1.0, expect!["the target is 1, expected above 0 and below 1"]);
        refused(|s| s.target = f64::NAN, expect!["the target is NaN, expected above 0 and below 1"]);
        refused(|s| s.seeds = 0, expect!["the number of seeds is 0, expected at least 1"]);
        refused(|s| s.cap = 0, expect!["the cap is 0, expected at least 1"]);
        refused(|s| s.per_update = 0, expect!["the completions per update is 0, expected at least 1"]);
        refused(|s| s.rate = f64::INFINITY, expect!["the rate is inf, expected above 0 and finite"]);
        refused(|s| s.mixing = 1.5, expect!["the mixing is 1.5, expected 0 to 1"]);
    }
}

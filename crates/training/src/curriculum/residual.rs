//! Problems that are always solved come back at a rising temperature.
//!
//! ```text
//! heat(problem)        = 0 at first
//! after its group      : all succeed: heat + 1, none succeeds: heat − 1, mixed: as it is
//! temperature(problem) = min(base + rise · heat, hottest); the run's own while heat is 0
//! ```
//!
//! ERPO, "Explore Residual Prompts", arXiv 2511.04800: a residual prompt is one whose group was all
//! correct, so that nothing was learnt. Sampled hotter, the policy leaves its habit, fails now and then, and
//! the group says something again. The other half of the paper, a pseudo-negative reward in groups that are
//! all correct, is an objective's affair.
//!
//! Zero cases: a problem that fails at heat 0 stays there; at `hottest`, heat rises no more. With
//! `rise = 0` it is the plain curriculum.
//!
//! Departures: the paper's rise and highest temperature are not known; both are our choice. That heat falls
//! where none succeeds, and stays where some do, is ours: it is only said that it is raised step by step.
//! Whole epochs are sampled; the paper builds on DAPO, which drops what is silent.
//!
//! Doubt: scores are of the policy at temperature 1, so that a hot group is off-policy: what is told of
//! it as a mismatch is the temperature, and clips act on it. The paper does not say how it scores.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use toehold_rollout::{Start, StartId};

use super::{
    BuildError, Curriculum, Cycle, Fate, GroupOutcome, Material, RestoreError, Selection, Traces, kept, named, refuse,
};
use crate::recipe::{RecipeError, section};

section! {
    /// Settings of residual prompts.
    Residual from ResidualWritten {
        /// The temperature that heat is added to, above 0: that of `[train]`.
        base: f64 = 1.0,
        /// What one group in which all succeed adds, at least 0. Our choice.
        rise: f64 = 0.1,
        /// The highest temperature, at least `base`. Our choice.
        hottest: f64 = 1.5,
    }
}

/// The temperature of a problem of this heat; none for the run's own.
///
/// ```
/// use toehold_training::curriculum::residual::{Residual, temperature};
/// let settings = Residual { base: 1.0, rise: 0.25, hottest: 1.6 };
/// let found: Vec<Option<f32>> = (0..5).map(|heat| temperature(&settings, heat)).collect();
/// assert_eq!(found, [None, Some(1.25), Some(1.5), Some(1.6), Some(1.6)]);
/// ```
pub fn temperature(settings: &Residual, heat: u32) -> Option<f32> {
    let hot = (settings.base + settings.rise * f64::from(heat)).min(settings.hottest);
    (heat > 0).then_some(hot as f32)
}

impl Residual {
    pub(super) const TRACES: Traces = Traces::None;

    pub(super) fn checked(self) -> Result<Residual, RecipeError> {
        let is_finite = |value: f64| value.is_finite() && value >= 0.0;
        match self {
            Residual { base, .. } if !(is_finite(base) && base > 0.0) => refuse("base", base, "above 0"),
            Residual { rise, .. } if !is_finite(rise) => refuse("rise", rise, "at least 0"),
            Residual { hottest, base, .. } if !(is_finite(hottest) && hottest >= base) => {
                refuse("hottest", hottest, "at least base")
            }
            _ => Ok(self),
        }
    }

    /// The heat at which the highest temperature is reached.
    fn most(&self) -> u32 {
        let steps = (self.hottest - self.base) / self.rise;
        // A rounding error must not add a step.
        if self.rise > 0.0 { (steps - 1e-9).ceil().clamp(0.0, 1e9) as u32 } else { 0 }
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        if material.plain.is_empty() {
            return Err(BuildError::NoStart { plain: 0, prefixed: 0, plain_share: 1.0 });
        }
        let starts: Vec<Arc<Start>> = material.plain.into_iter().map(Arc::new).collect();
        Ok(Box::new(ResidualCurriculum {
            settings: self.clone(),
            cycle: Cycle::new("plain starts", seed, starts.len()),
            places: starts.iter().enumerate().map(|(at, start)| (start.id.clone(), at)).collect(),
            heat: vec![0; starts.len()],
            groups: Groups::default(),
            starts,
        }))
    }
}

/// Residual prompts at work.
struct ResidualCurriculum {
    settings: Residual,
    starts: Vec<Arc<Start>>,
    places: HashMap<StartId, usize>,
    cycle: Cycle,
    heat: Vec<u32>,
    groups: Groups,
}

/// Groups that were sampled hot, and those of them that were mixed: what heat gained.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Groups {
    hot: u64,
    hot_mixed: u64,
}

/// Its state.
#[derive(Serialize, Deserialize)]
struct Kept {
    taken: u64,
    heat: Vec<u32>,
    groups: Groups,
}

impl ResidualCurriculum {
    fn select(&mut self) -> Option<Selection> {
        let epoch = self.cycle.epoch();
        let at = self.cycle.take()?;
        let temperature = temperature(&self.settings, self.heat[at]);
        let why = match temperature {
            Some(hot) => format!("residual, temperature {hot:.2}, epoch {epoch}"),
            None => format!("epoch {epoch}"),
        };
        Some(Selection { temperature, ..Selection::new(self.starts[at].clone(), why) })
    }

    fn material(&self) -> String {
        kept::name(self.starts.iter().map(Arc::as_ref))
    }
}

impl Curriculum for ResidualCurriculum {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        (0..count).map_while(|_| self.select()).collect()
    }

    fn observe(&mut self, selection: &Selection, outcome: GroupOutcome) -> Fate {
        if selection.temperature.is_some() {
            self.groups.hot += 1;
            self.groups.hot_mixed += u64::from(outcome.is_mixed());
        }
        let Some(&at) = self.places.get(&selection.start.id) else { return Fate::Learnt };
        let heat = &mut self.heat[at];
        match outcome.count {
            count if count.attempts == 0 || outcome.is_mixed() => {}
            count if count.successes == 0 => *heat = heat.saturating_sub(1),
            _ => *heat = (*heat + 1).min(self.settings.most()),
        }
        Fate::Learnt
    }

    fn state(&self) -> Value {
        let kept = Kept { taken: self.cycle.taken(), heat: self.heat.clone(), groups: self.groups };
        kept::keep(self.material(), &kept)
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let Kept { taken, heat, groups } = kept::kept(state, &self.material())?;
        if heat.len() != self.starts.len() {
            let reason = format!("`heat` is of {} problems, expected {}", heat.len(), self.starts.len());
            return Err(RestoreError { reason });
        }
        self.cycle.seek(taken);
        (self.heat, self.groups) = (heat.into_iter().map(|heat| heat.min(self.settings.most())).collect(), groups);
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let count = |of: &dyn Fn(u32) -> bool| self.heat.iter().filter(|&&heat| of(heat)).count() as f64;
        let most = self.settings.most();
        named([
            ("epoch", self.cycle.epoch() as f64),
            ("problems_residual", count(&|heat| heat > 0)),
            ("problems_hottest", count(&|heat| most > 0 && heat == most)),
            ("groups_hot", self.groups.hot as f64),
            ("groups_hot_mixed", self.groups.hot_mixed as f64),
        ])
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use toehold_rollout::SuccessCount;

    use super::super::tests::{ids, plain_starts};
    use super::super::{Curriculum, GroupOutcome, Material, Selection};
    use super::Residual;
    use crate::random;

    /// Log-odds of a success at temperature 1, which fall by 10 for each degree above: problem 0 never
    /// succeeds, 1 does half of the time, 2 and 3 nearly always, 4 always, whatever the temperature.
    const PLAIN: [f64; 5] = [-30.0, 0.0, 5.0, 7.0, 30.0];

    fn chance(selection: &Selection) -> f64 {
        let hotter = f64::from(selection.temperature.unwrap_or(1.0)) - 1.0;
        1.0 / (1.0 + (10.0 * hotter - PLAIN[selection.start.prompt[0] as usize]).exp())
    }

    fn build(settings: &Residual, problems: u32) -> Box<dyn Curriculum> {
        settings.build(Material { plain: plain_starts(problems), ..Material::default() }, 3).unwrap()
    }

    fn outcome(successes: u64, attempts: u64) -> GroupOutcome {
        GroupOutcome { count: SuccessCount { successes, attempts }, ..GroupOutcome::default() }
    }

    /// One epoch of groups of 16: the temperature and the successes of each problem, in their order.
    fn epoch(curriculum: &mut dyn Curriculum, at: u64) -> Vec<String> {
        let mut lines = Vec::new();
        for (index, selection) in curriculum.next(PLAIN.len()).into_iter().enumerate() {
            let mut rng = random::stream(11, "world", &[at, index as u64]);
            let successes = (0..16).filter(|_| random::unit(&mut rng) < chance(&selection)).count() as u64;
            curriculum.observe(&selection, outcome(successes, 16));
            let hot = selection.temperature.map_or("-".to_owned(), |hot| format!("{hot:.1}"));
            lines.push(format!("{} {hot}:{successes:2}", selection.start.problem.as_str()));
        }
        lines.sort();
        lines
    }

    const OURS: Residual = Residual { base: 1.0, rise: 0.1, hottest: 1.5 };

    #[test]
    fn solved_problems_are_heated_until_they_fail() {
        let mut curriculum = build(&OURS, 5);
        let epochs: Vec<String> = (0..8).map(|at| epoch(curriculum.as_mut(), at).join("  ")).collect();
        expect![[r#"
            p0 -: 0  p1 -: 9  p2 -:16  p3 -:16  p4 -:16
            p0 -: 0  p1 -: 6  p2 1.1:16  p3 1.1:16  p4 1.1:16
            p0 -: 0  p1 -: 8  p2 1.2:16  p3 1.2:16  p4 1.2:16
            p0 -: 0  p1 -: 9  p2 1.3:14  p3 1.3:16  p4 1.3:16
            p0 -: 0  p1 -:10  p2 1.3:13  p3 1.4:16  p4 1.4:16
            p0 -: 0  p1 -: 8  p2 1.3:14  p3 1.5:15  p4 1.5:16
            p0 -: 0  p1 -:11  p2 1.3:14  p3 1.5:15  p4 1.5:16
            p0 -: 0  p1 -: 8  p2 1.3:16  p3 1.5:13  p4 1.5:16"#]]
        .assert_eq(&epochs.join("\n"));
    }

    /// Of 500 groups, those that were mixed: with heat, and without.
    #[test]
    fn heat_makes_silent_groups_speak() {
        let mixed = |settings: &Residual| {
            let mut curriculum = build(settings, 5);
            let lines: Vec<String> = (0..100).flat_map(|at| epoch(curriculum.as_mut(), at)).collect();
            let silent = |line: &&String| line.ends_with(": 0") || line.ends_with(":16");
            let metrics = curriculum.metrics();
            let [hot, hot_mixed] = ["hot", "hot_mixed"].map(|name| metrics[&format!("curriculum/groups_{name}")]);
            format!(
                "{} of {}, hot {hot_mixed} of {hot}",
                lines.len() - lines.iter().filter(silent).count(),
                lines.len()
            )
        };
        expect![[r#"
            278 of 500, hot 178 of 297
            107 of 500, hot 0 of 0"#]]
        .assert_eq(&format!("{}\n{}", mixed(&OURS), mixed(&Residual { rise: 0.0, ..OURS })));
    }

    #[track_caller]
    fn check(settings: &Residual, successes: &[u64], expected: Expect) {
        let mut curriculum = build(settings, 1);
        let mut found = Vec::new();
        for &successes in successes {
            let selection = curriculum.next(1).remove(0);
            found.push(selection.temperature.map_or("-".to_owned(), |hot| format!("{hot}")));
            curriculum.observe(&selection, outcome(successes, 4));
        }
        expected.assert_eq(&found.join(" "));
    }

    #[test]
    fn heat_follows_the_groups() {
        check(&OURS, &[4, 4, 4, 4, 4, 4, 4], expect!["- 1.1 1.2 1.3 1.4 1.5 1.5"]);
        check(&OURS, &[4, 4, 2, 2, 0, 0, 0, 4, 1], expect!["- 1.1 1.2 1.2 1.2 1.1 - - 1.1"]);
        check(&Residual { hottest: 1.25, ..OURS }, &[4, 4, 4, 4, 0, 0], expect!["- 1.1 1.2 1.25 1.25 1.2"]);
        check(&Residual { hottest: 1.0, ..OURS }, &[4, 4, 4], expect!["- - -"]);
        check(&Residual { rise: 0.0, ..OURS }, &[4, 4, 4], expect!["- - -"]);
    }

    #[test]
    fn a_state_goes_on_exactly() {
        let mut whole = build(&OURS, 5);
        let all: Vec<Vec<String>> = (0..12).map(|at| epoch(whole.as_mut(), at)).collect();
        let mut before = build(&OURS, 5);
        for cut in 0..12 {
            let state = before.state();
            let mut after = build(&OURS, 5);
            after.restore(&serde_json::from_str(&state.to_string()).unwrap()).unwrap();
            assert_eq!((after.state(), after.metrics()), (state.clone(), before.metrics()));
            (cut..12).for_each(|at| assert_eq!(epoch(after.as_mut(), at), all[at as usize], "from {cut}, at {at}"));
            build(&OURS, 4).restore(&state).unwrap_err();
            let mut broken = state;
            broken["state"]["heat"] = serde_json::json!([1]);
            build(&OURS, 5).restore(&broken).unwrap_err();
            epoch(before.as_mut(), cut);
        }
        assert_eq!(ids(&before.next(5)), ids(&whole.next(5)));
    }
}

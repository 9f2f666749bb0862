//! A cue after the statement where a group failed, within the same step.
//!
//! ```text
//! group of the plain problem, all of it failed → group of the problem with its cue
//! learnt: the plain group, or the one with the cue in its place
//! ```
//!
//! NuRL, arXiv 2509.25666: a cue tells what a solution turns on without telling the answer; it stands in the
//! prompt, so the whole completion is the policy's own and all of it is learnt from. A problem that is solved
//! at all is never given its cue, so cues withdraw themselves. Abstract cues did best there, parts of the
//! work less well, answers worst.
//!
//! Where cues come from is not asked here: a problem file has them as `cue`, and the chain family makes one
//! (the operation to start with) where there is a choice. The paper's are the policy's own: it explains the
//! reference answer and then takes the idea out of its explanation.
//!
//! Zero cases: a group without any verdict is not taken for failed. The plain group of a problem without a cue
//! is learnt as it is.
//!
//! Departures: the paper's second group is of one rollout without the cue and the others with it, under one
//! baseline; here a group is of one start, since a baseline over two start states credits the cue to the
//! tokens. The paper trains without cues until that has converged, and then drops the questions that are
//! always solved: `start_step` and `[problems] band` are for that.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;
use toehold_rollout::{Origin, ProblemId, Start, TokenId};

use super::guidance::{KeptRescues, Rescues, is_all_fail};
use super::{
    BuildError, Curriculum, Cycle, Fate, GroupOutcome, Material, RestoreError, Selection, Traces, kept, named,
};
use crate::recipe::{RecipeError, section};

section! {
    /// Settings of NuRL.
    Nurl from NurlWritten {
        /// Steps at the beginning without cues. NuRL: until plain training has converged.
        start_step: u64 = 0,
    }
}

/// This problem with its cue in the prompt, which is then `prompt`.
///
/// ```
/// use toehold_rollout::{ProblemId, Start};
/// use toehold_training::curriculum::nurl::with_cue;
/// let plain = Start::plain(ProblemId::from("a"), vec![1, 2]);
/// let start = with_cue(&plain, vec![1, 7, 8, 2]);
/// assert!(start.prefix.is_empty() && !start.is_plain());
/// assert_eq!(start.origin.map(|origin| (origin.trace, origin.source_tokens)), Some((None, 2)));
/// ```
pub fn with_cue(plain: &Start, prompt: Vec<TokenId>) -> Start {
    let tokens = prompt.len().saturating_sub(plain.prompt.len());
    let origin = Origin { trace: None, source_tokens: tokens as u32 };
    Start::prefixed(plain.problem.clone(), prompt, Vec::new(), origin)
}

impl Nurl {
    pub(super) const TRACES: Traces = Traces::Cues;

    pub(super) fn checked(self) -> Result<Nurl, RecipeError> {
        Ok(self)
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        let cues = material.cues.into_iter().map(|start| (start.problem.clone(), Arc::new(start)));
        let mut cues: HashMap<ProblemId, Arc<Start>> = cues.collect();
        let plain: Vec<Arc<Start>> = material.plain.into_iter().map(Arc::new).collect();
        let cued: Vec<Option<Arc<Start>>> = plain.iter().map(|start| cues.remove(&start.problem)).collect();
        if cued.iter().all(Option::is_none) {
            return Err(BuildError::NoCue { problems: plain.len() });
        }
        Ok(Box::new(NurlCurriculum {
            settings: self.clone(),
            places: plain.iter().enumerate().map(|(at, start)| (start.problem.clone(), at)).collect(),
            cycle: Cycle::new("plain starts", seed, plain.len()),
            plain,
            cued,
            counts: Rescues::default(),
            failed: Vec::new(),
        }))
    }
}

/// NuRL at work.
struct NurlCurriculum {
    settings: Nurl,
    plain: Vec<Arc<Start>>,
    /// None for a problem without a cue.
    cued: Vec<Option<Arc<Start>>>,
    places: HashMap<ProblemId, usize>,
    cycle: Cycle,
    counts: Rescues,
    /// With their cue, the problems whose groups of this round failed.
    failed: Vec<Arc<Start>>,
}

impl NurlCurriculum {
    /// What replaces this group; none when it stays.
    fn replacement(&self, selection: &Selection, outcome: GroupOutcome) -> Option<Arc<Start>> {
        let is_due = selection.start.is_plain() && self.counts.steps > self.settings.start_step;
        if !is_due || !is_all_fail(outcome) {
            return None;
        }
        self.cued[*self.places.get(&selection.start.problem)?].clone()
    }

    fn material(&self) -> String {
        kept::name(self.plain.iter().chain(self.cued.iter().flatten()).map(Arc::as_ref))
    }
}

impl Curriculum for NurlCurriculum {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        self.counts.steps += 1;
        self.failed.clear();
        let select = |_| {
            let why = format!("plain, epoch {}", self.cycle.epoch());
            self.cycle.take().map(|problem| Selection::new(self.plain[problem].clone(), why))
        };
        (0..count).map_while(select).collect()
    }

    fn observe(&mut self, selection: &Selection, outcome: GroupOutcome) -> Fate {
        let replacement = self.replacement(selection, outcome);
        let fate = self.counts.add(selection, outcome, replacement.is_some());
        self.failed.extend(replacement);
        fate
    }

    fn again(&mut self) -> Vec<Selection> {
        let with_cue = |start| Selection::new(start, "with its cue, all failed without".to_owned());
        std::mem::take(&mut self.failed).into_iter().map(with_cue).collect()
    }

    fn state(&self) -> Value {
        kept::keep(self.material(), &KeptRescues { taken: self.cycle.taken(), counts: self.counts })
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let KeptRescues { taken, counts } = kept::kept(state, &self.material())?;
        self.cycle.seek(taken);
        self.counts = counts;
        self.failed.clear();
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let without = self.cued.iter().filter(|start| start.is_none()).count();
        let mut metrics = named([("epoch", self.cycle.epoch() as f64), ("problems_without_cue", without as f64)]);
        metrics.extend(self.counts.metrics());
        metrics
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use toehold_rollout::{Start, SuccessCount};

    use super::super::guidance::world::metrics;
    use super::super::simulation::{Played, check_resume, run, shown};
    use super::super::tests::plain_starts;
    use super::super::{Curriculum, Fate, GroupOutcome, Material};
    use super::{Nurl, with_cue};

    /// Success without the cue and with it, before anything is learnt: one that needs none, two that it helps,
    /// one that is beyond help; the last has no cue.
    const CHANCES: [(f64, f64); 5] = [(0.5, 0.9), (0.0, 0.3), (0.01, 0.9), (0.0, 0.0), (0.0, 0.0)];

    /// A cue is one token, 9, behind the problem's.
    fn material(problems: u32) -> Material {
        let plain = plain_starts(problems);
        let cues = plain.iter().take(4).map(|start| with_cue(start, vec![start.prompt[0], 9])).collect();
        Material { plain, cues, ..Material::default() }
    }

    /// What is learnt raises success without the cue and with it alike.
    fn chance(start: &Start, rise: f64) -> f64 {
        let (plain, cued) = CHANCES[start.prompt[0] as usize];
        let before = if start.is_plain() { plain } else { cued };
        if cued > 0.0 { (before + rise).min(1.0) } else { 0.0 }
    }

    fn build(start_step: u64, problems: u32) -> Box<dyn Curriculum> {
        Nurl { start_step }.build(material(problems), 3).unwrap()
    }

    #[track_caller]
    fn check(start_step: u64, expected: Expect) {
        let steps = run(build(start_step, 5).as_mut(), 0..3, 5, |start, _| chance(start, 0.0));
        let kind = |one: &Played| if one.selection.start.is_plain() { "plain" } else { "cue" };
        let marked =
            |step: &Vec<Played>| format!("{} | {}", shown(step), step.iter().map(kind).collect::<Vec<_>>().join(" "));
        expected.assert_eq(&steps.iter().map(marked).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn a_failed_group_comes_again_with_its_cue() {
        check(
            0,
            expect![[r#"
            p4:0=0 p0:0=11 p2:0=0- p1:0=0- p3:0=0- p2:0=14 p1:0=2 p3:0=0 | plain plain plain plain plain cue cue cue
            p2:0=0- p3:0=0- p0:0=8 p1:0=0- p4:0=0 p2:0=16 p3:0=0 p1:0=5 | plain plain plain plain plain cue cue cue
            p0:0=11 p4:0=0 p2:0=1 p1:0=0- p3:0=0- p1:0=6 p3:0=0 | plain plain plain plain plain cue cue"#]],
        );
    }

    #[test]
    fn the_first_steps_are_without() {
        check(
            2,
            expect![[r#"
            p4:0=0 p0:0=11 p2:0=0 p1:0=0 p3:0=0 | plain plain plain plain plain
            p2:0=0 p3:0=0 p0:0=8 p1:0=0 p4:0=0 | plain plain plain plain plain
            p0:0=11 p4:0=0 p2:0=1 p1:0=0- p3:0=0- p1:0=6 p3:0=0 | plain plain plain plain plain cue cue"#]],
        );
    }

    /// Cues withdraw themselves: in the last ten steps the two that they helped are solved without.
    #[test]
    fn what_it_costs_and_when_it_ends() {
        let mut curriculum = build(0, 5);
        run(curriculum.as_mut(), 0..40, 5, |start, at| chance(start, 0.02 * at as f64));
        expect![[r#"
            dropped_rollouts 704.000
            epoch 40.000
            given_tokens 1.000
            groups_failed 44.000
            groups_rescued 4.000
            guided_rollouts 704.000
            plain_rollouts 3200.000
            problems_without_cue 1.000"#]]
        .assert_eq(&metrics(curriculum.as_ref()));
        let late = run(curriculum.as_mut(), 40..50, 5, |start, at| chance(start, 0.02 * at as f64));
        let cued = late.iter().flatten().filter(|one| !one.selection.start.is_plain());
        let mut problems: Vec<&str> = cued.map(|one| one.selection.start.problem.as_str()).collect();
        problems.dedup();
        assert_eq!(problems, ["p3"]);
    }

    #[test]
    fn a_group_without_a_verdict_has_not_failed() {
        let mut curriculum = build(0, 5);
        for selection in curriculum.next(5) {
            let none = GroupOutcome { count: SuccessCount::default(), completion_tokens: 10 };
            assert_eq!(curriculum.observe(&selection, none), Fate::Learnt);
        }
        assert_eq!(curriculum.again(), []);
    }

    #[test]
    fn without_any_cue_the_run_does_not_begin() {
        let none = Material { cues: Vec::new(), ..material(5) };
        expect![[r#"
            no cue can be shown: none of 5 problems has one
            hint: add `cue` to the problems; the chain family makes cues where it has two methods"#]]
        .assert_eq(&Nurl { start_step: 0 }.build(none, 3).err().unwrap().to_string());
    }

    #[test]
    fn a_state_goes_on_exactly() {
        check_resume(|| build(1, 5), build(1, 4), 12, 3, |start, at| chance(start, 0.02 * at as f64));
    }
}

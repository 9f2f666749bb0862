//! Another problem with its correct trace before the problem.
//!
//! ```text
//! prompt = other problem's prompt + its correct trace + this problem's prompt,   prefix = nothing
//! starts = problems in epochs, plain_share of them without anything before them;
//!          what is shown is drawn anew each time, among the correct traces of all other problems
//! ```
//!
//! PrefixRL, arXiv 2601.18795, section 4.3 and figure 6, where it is an experiment with two related problems:
//! RL on one of them with the other before it raised both, the shown one nearly as much, though nothing was
//! trained there; with unrelated problems it did little.
//!
//! Nothing is given of the problem itself, so the whole completion is the policy's own. What is shown is in
//! the prompt and never trained on. All rollouts of a group see the same trace.
//!
//! Zero cases: a problem whose only shown trace could be its own is plain, and so are all where no trace
//! is short enough.
//!
//! Departures: the paper chooses pairs by hand, related ones; here any other problem is shown, since
//! nothing here knows what is related. The two parts follow each other as token ids with nothing between,
//! so that a template which marks the beginning of a text marks it twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use toehold_rollout::{Origin, Start};

use super::cycle::is_among;
use super::{
    BuildError, Curriculum, Cycle, Fate, GroupOutcome, Material, RestoreError, Selection, Source, Traces, kept, named,
    refuse,
};
use crate::random;
use crate::recipe::{RecipeError, section};

section! {
    /// Settings of in-context conditioning. All are our choice.
    InContext from InContextWritten {
        /// Share of the starts with nothing before the problem, in `[0, 1]`.
        plain_share: f64 = 0.25,
        /// What is shown, problem and trace, has at most so many tokens.
        longest: usize = 4096,
    }
}

/// This problem with another one and its trace before it.
///
/// ```
/// use toehold_rollout::{ProblemId, Start};
/// use toehold_training::curriculum::{Source, in_context::shown_before};
/// let id = |text: &str| ProblemId::from(text.to_owned());
/// let (problem, prompt, tokens) = (id("b"), vec![7], vec![8, 9]);
/// let other = Source { problem, prompt, tokens, row: Some(3), is_correct: true, limit: 1, inside: vec![] };
/// let start = shown_before(&other, &Start::plain(id("a"), vec![1, 2]));
/// assert_eq!((start.problem.as_str(), start.prompt.as_slice()), ("a", &[7, 8, 9, 1, 2][..]));
/// assert!(start.prefix.is_empty() && !start.is_plain());
/// ```
pub fn shown_before(other: &Source, start: &Start) -> Start {
    let prompt = [&other.prompt[..], &other.tokens, &start.prompt].concat();
    let origin = Origin { trace: other.row, source_tokens: other.tokens.len() as u32 };
    Start::prefixed(start.problem.clone(), prompt, Vec::new(), origin)
}

impl InContext {
    pub(super) const TRACES: Traces = Traces::Correct;

    pub(super) fn checked(self) -> Result<InContext, RecipeError> {
        match self {
            InContext { plain_share, .. } if !(0.0..=1.0).contains(&plain_share) => {
                refuse("plain_share", plain_share, "in [0, 1]")
            }
            InContext { longest: 0, .. } => refuse("longest", 0, "at least 1"),
            _ => Ok(self),
        }
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        if material.plain.is_empty() {
            return Err(BuildError::NoStart { plain: 0, prefixed: 0, plain_share: self.plain_share });
        }
        let is_shown = |source: &Source| source.is_correct && source.prompt.len() + source.tokens.len() <= self.longest;
        let mut shown: Vec<Source> = material.sources.into_iter().filter(is_shown).collect();
        // What is drawn depends on neither the order nor the rows of the store.
        shown.sort_by(|a, b| (&a.problem, &a.tokens, a.row).cmp(&(&b.problem, &b.tokens, b.row)));
        shown.dedup_by(|a, b| a.problem == b.problem && a.tokens == b.tokens);
        Ok(Box::new(InContextCurriculum {
            plain_share: self.plain_share,
            seed,
            shown,
            cycle: Cycle::new("problems", seed, material.plain.len()),
            starts: material.plain.into_iter().map(Arc::new).collect(),
            rollouts: [Tally::default(); 2],
        }))
    }
}

/// In-context conditioning at work.
struct InContextCurriculum {
    plain_share: f64,
    seed: u64,
    /// Correct traces, by problem.
    shown: Vec<Source>,
    starts: Vec<Arc<Start>>,
    cycle: Cycle,
    /// Of plain starts, and of those with something before them.
    rollouts: [Tally; 2],
}

/// Groups, and rollouts with their successes.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Tally {
    groups: u64,
    successes: u64,
    attempts: u64,
}

/// Its state.
#[derive(Serialize, Deserialize)]
struct Kept {
    taken: u64,
    rollouts: [Tally; 2],
}

impl InContextCurriculum {
    /// Whether start number `at` of the run is plain.
    fn is_plain(&self, at: u64) -> bool {
        is_among(self.plain_share, at)
    }

    /// A trace of another problem, each equally likely; none where there is none.
    fn draw(&self, start: &Start, number: u64) -> Option<&Source> {
        let own = self.shown.partition_point(|source| source.problem < start.problem);
        let after = self.shown.partition_point(|source| source.problem <= start.problem);
        let others = self.shown.len() - (after - own);
        let drawn = random::below(&mut random::stream(self.seed, "shown", &[number]), others as u64) as usize;
        (others > 0).then(|| &self.shown[if drawn < own { drawn } else { drawn + after - own }])
    }

    fn select(&mut self) -> Option<Selection> {
        let (number, epoch) = (self.cycle.taken(), self.cycle.epoch());
        let start = self.starts[self.cycle.take()?].clone();
        if self.is_plain(number) {
            return Some(Selection::new(start, format!("plain, epoch {epoch}")));
        }
        Some(match self.draw(&start, number) {
            Some(other) => {
                let why =
                    format!("after {} and its {} tokens, epoch {epoch}", other.problem.as_str(), other.tokens.len());
                Selection::new(Arc::new(shown_before(other, &start)), why)
            }
            None => Selection::new(start, format!("plain for want of a trace, epoch {epoch}")),
        })
    }

    fn material(&self) -> String {
        let whole: Vec<Start> = self.shown.iter().map(|source| source.start(source.tokens.len())).collect();
        kept::name(self.starts.iter().map(Arc::as_ref).chain(&whole))
    }
}

impl Curriculum for InContextCurriculum {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        (0..count).map_while(|_| self.select()).collect()
    }

    fn observe(&mut self, selection: &Selection, outcome: GroupOutcome) -> Fate {
        let tally = &mut self.rollouts[usize::from(!selection.start.is_plain())];
        tally.groups += 1;
        tally.successes += outcome.count.successes;
        tally.attempts += outcome.count.attempts;
        Fate::Learnt
    }

    fn state(&self) -> Value {
        kept::keep(self.material(), &Kept { taken: self.cycle.taken(), rollouts: self.rollouts })
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let Kept { taken, rollouts } = kept::kept(state, &self.material())?;
        self.cycle.seek(taken);
        self.rollouts = rollouts;
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = named([("epoch", self.cycle.epoch() as f64), ("traces_to_show", self.shown.len() as f64)]);
        for (kind, tally) in ["plain", "shown"].iter().zip(&self.rollouts) {
            metrics.insert(format!("curriculum/{kind}_groups"), tally.groups as f64);
            metrics.insert(format!("curriculum/{kind}_rollouts"), tally.attempts as f64);
            metrics.insert(format!("curriculum/{kind}_successes"), tally.successes as f64);
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use expect_test::{Expect, expect};
    use toehold_rollout::Start;

    use super::super::simulation::{check_resume, run};
    use super::super::tests::{plain_starts, sources};
    use super::super::{Curriculum, Material};
    use super::InContext;

    const OURS: InContext = InContext { plain_share: 0.25, longest: 100 };

    /// Four problems, the first three with a correct trace of five tokens.
    fn material() -> Material {
        Material { plain: plain_starts(4), sources: sources(3, 5, 5), ..Material::default() }
    }

    fn build(settings: &InContext, material: Material) -> Box<dyn Curriculum> {
        settings.build(material, 3).unwrap()
    }

    /// Plain, a problem succeeds once in ten times; after a shown trace half of the time.
    fn chance(start: &Start) -> f64 {
        if start.is_plain() { 0.1 } else { 0.5 }
    }

    #[track_caller]
    fn check(settings: &InContext, material: Material, expected: Expect) {
        let mut curriculum = build(settings, material);
        let line = |selection: &super::Selection| {
            format!("{} {:?} {}", selection.start.problem.as_str(), selection.start.prompt, selection.why)
        };
        expected.assert_eq(&curriculum.next(8).iter().map(line).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn another_problem_and_its_trace_come_first() {
        check(
            &OURS,
            material(),
            expect![[r#"
            p1 [2, 200, 201, 202, 203, 204, 1] after p2 and its 5 tokens, epoch 0
            p3 [0, 0, 1, 2, 3, 4, 3] after p0 and its 5 tokens, epoch 0
            p0 [1, 100, 101, 102, 103, 104, 0] after p1 and its 5 tokens, epoch 0
            p2 [2] plain, epoch 0
            p3 [2, 200, 201, 202, 203, 204, 3] after p2 and its 5 tokens, epoch 1
            p1 [0, 0, 1, 2, 3, 4, 1] after p0 and its 5 tokens, epoch 1
            p0 [2, 200, 201, 202, 203, 204, 0] after p2 and its 5 tokens, epoch 1
            p2 [2] plain, epoch 1"#]],
        );
        // Its own trace is not shown; a trace that is too long is not either, nor a failure.
        let mut one = material();
        one.sources.truncate(1);
        check(
            &InContext { plain_share: 0.0, ..OURS },
            one.clone(),
            expect![[r#"
            p1 [0, 0, 1, 2, 3, 4, 1] after p0 and its 5 tokens, epoch 0
            p3 [0, 0, 1, 2, 3, 4, 3] after p0 and its 5 tokens, epoch 0
            p0 [0] plain for want of a trace, epoch 0
            p2 [0, 0, 1, 2, 3, 4, 2] after p0 and its 5 tokens, epoch 0
            p3 [0, 0, 1, 2, 3, 4, 3] after p0 and its 5 tokens, epoch 1
            p1 [0, 0, 1, 2, 3, 4, 1] after p0 and its 5 tokens, epoch 1
            p0 [0] plain for want of a trace, epoch 1
            p2 [0, 0, 1, 2, 3, 4, 2] after p0 and its 5 tokens, epoch 1"#]],
        );
        check(
            &InContext { plain_share: 0.0, longest: 5 },
            one.clone(),
            expect![[r#"
            p1 [1] plain for want of a trace, epoch 0
            p3 [3] plain for want of a trace, epoch 0
            p0 [0] plain for want of a trace, epoch 0
            p2 [2] plain for want of a trace, epoch 0
            p3 [3] plain for want of a trace, epoch 1
            p1 [1] plain for want of a trace, epoch 1
            p0 [0] plain for want of a trace, epoch 1
            p2 [2] plain for want of a trace, epoch 1"#]],
        );
        one.sources[0].is_correct = false;
        assert!(build(&OURS, one).next(8).iter().all(|selection| selection.start.is_plain()));
        assert!(OURS.build(Material::default(), 0).is_err());
    }

    #[test]
    fn every_other_trace_is_as_likely_whatever_the_order_of_the_store() {
        let shown = |material: Material| {
            let mut curriculum = build(&InContext { plain_share: 0.0, ..OURS }, material);
            let mut counts: BTreeMap<String, u32> = BTreeMap::new();
            for selection in curriculum.next(1_200) {
                let other = selection.start.prompt[0];
                *counts.entry(format!("{}<{other}", selection.start.problem.as_str())).or_default() += 1;
            }
            counts.iter().map(|(pair, count)| format!("{pair} {count}")).collect::<Vec<_>>().join(" ")
        };
        expect!["p0<1 166 p0<2 134 p1<0 158 p1<2 142 p2<0 146 p2<1 154 p3<0 85 p3<1 104 p3<2 111"]
            .assert_eq(&shown(material()));
        let mut reversed = material();
        reversed.sources.reverse();
        reversed.sources.iter_mut().for_each(|source| source.row = source.row.map(|row| row + 7));
        assert_eq!(shown(reversed), shown(material()));
    }

    #[test]
    fn both_kinds_are_counted() {
        let mut curriculum = build(&OURS, material());
        run(curriculum.as_mut(), 0..10, 8, |start, _| chance(start));
        let line = |(name, value): (String, f64)| format!("{} {value}", name.trim_start_matches("curriculum/"));
        expect!["epoch 20, plain_groups 20, plain_rollouts 320, plain_successes 32, shown_groups 60, shown_rollouts 960, shown_successes 505, traces_to_show 3"].assert_eq(&curriculum.metrics().into_iter().map(line).collect::<Vec<_>>().join(", "));
    }

    #[test]
    fn a_state_goes_on_exactly() {
        let mut fewer = material();
        fewer.sources.truncate(2);
        check_resume(|| build(&OURS, material()), build(&OURS, fewer), 9, 3, |start, _| chance(start));
    }
}

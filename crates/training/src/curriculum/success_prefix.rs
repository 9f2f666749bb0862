//! Success prefixes beside plain problems.
//!
//! ```text
//! pool  = { problem + first h tokens of its correct trace : h ~ U[from · W, to · W], `cuts` per trace }
//! W     = tokens of the trace before its answer
//! starts = pool and plain problems, plain_share of them plain
//! ```
//!
//! PrefixRL, arXiv 2601.18795, sections 3 and 5: three cuts per trace in U(40 %, 80 %), drawn once
//! before training, beside the same problems without a prefix, 3 : 1.
//!
//! Zero cases: a problem without a correct trace, or whose trace answers at once, has only
//! its plain start; with no prefix at all, or a share of 1, all starts are plain; with a share of 0,
//! none is, unless there is no prefix.
//!
//! Departures: the paper shuffles one fixed pool of both kinds, so that the mixture holds on average;
//! here each kind has its own epochs and the mixture holds in every step, up to rounding. Shares
//! are of the tokens before the answer, so that no cut shows it; the paper's are of the whole trace,
//! whose answer is a small part. Of several correct traces of a problem, each is
//! cut; the paper has one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use toehold_rollout::Start;

use super::cut::uniform_cuts;
use super::cycle::is_among;
use super::{
    BuildError, Curriculum, Cycle, Fate, GroupOutcome, Material, RestoreError, Selection, Source, Traces, named,
    refuse, restored,
};
use crate::random;
use crate::recipe::{RecipeError, section};

section! {
    /// Settings of the success-prefix curriculum.
    SuccessPrefix from SuccessPrefixWritten {
        /// Prefixes per correct trace. PrefixRL: 3.
        cuts: usize = 3,
        /// The shortest prefix, as a share of its trace before the answer, in `[0, 1]`. PrefixRL: 0.4.
        from: f64 = 0.4,
        /// The longest prefix, as a share of its trace before the answer, in `[from, 1]`. PrefixRL: 0.8.
        to: f64 = 0.8,
        /// Share of the starts that have no prefix, in `[0, 1]`. PrefixRL: 0.25.
        plain_share: f64 = 0.25,
    }
}

/// Cuts every correct trace of `sources`, each at places that depend on the seed, the problem and the
/// trace's tokens alone, so that neither the order of the traces nor their rows in the store matter.
pub fn success_prefixes(settings: &SuccessPrefix, sources: &[Source], seed: u64) -> Vec<Start> {
    let mut starts: Vec<Start> = sources.iter().filter(|s| s.is_correct).flat_map(|s| cut(settings, s, seed)).collect();
    // Traces that begin alike can give the same start, which is one start.
    starts.sort_by(|a, b| (&a.problem, a.prefix.len(), &a.prefix).cmp(&(&b.problem, b.prefix.len(), &b.prefix)));
    starts.dedup_by(|a, b| a.id == b.id);
    starts
}

fn cut(settings: &SuccessPrefix, source: &Source, seed: u64) -> Vec<Start> {
    let tokens: Vec<u64> = source.tokens.iter().map(|&token| u64::from(token)).collect();
    let mut rng = random::stream(seed, &format!("cut {}", source.problem.as_str()), &tokens);
    let range = (settings.from, settings.to);
    let cuts = uniform_cuts(source.tokens.len(), source.limit, settings.cuts, range, &mut rng);
    cuts.into_iter().map(|length| source.start(length)).collect()
}

impl SuccessPrefix {
    pub(super) const TRACES: Traces = Traces::Correct;

    pub(super) fn checked(self) -> Result<SuccessPrefix, RecipeError> {
        match self {
            SuccessPrefix { cuts: 0, .. } => refuse("cuts", 0, "at least 1"),
            SuccessPrefix { from, .. } if !(0.0..=1.0).contains(&from) => refuse("from", from, "in [0, 1]"),
            SuccessPrefix { from, to, .. } if !(from..=1.0).contains(&to) => refuse("to", to, "in [from, 1]"),
            SuccessPrefix { plain_share, .. } if !(0.0..=1.0).contains(&plain_share) => {
                refuse("plain_share", plain_share, "in [0, 1]")
            }
            _ => Ok(self),
        }
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        let prefixed = success_prefixes(self, &material.sources, seed);
        let plain_share = match (material.plain.is_empty(), prefixed.is_empty()) {
            (false, true) => 1.0,
            (true, false) => 0.0,
            _ => self.plain_share,
        };
        if material.plain.is_empty() && prefixed.is_empty() {
            return Err(BuildError::NoStart { plain: 0, prefixed: 0, plain_share });
        }
        Ok(Box::new(SuccessPrefixCurriculum {
            plain_cycle: Cycle::new("plain starts", seed, material.plain.len()),
            prefixed_cycle: Cycle::new("prefixed starts", seed, prefixed.len()),
            plain: material.plain.into_iter().map(Arc::new).collect(),
            prefixed: prefixed.into_iter().map(Arc::new).collect(),
            plain_share,
        }))
    }
}

/// The success-prefix curriculum at work.
struct SuccessPrefixCurriculum {
    plain: Vec<Arc<Start>>,
    prefixed: Vec<Arc<Start>>,
    plain_cycle: Cycle,
    prefixed_cycle: Cycle,
    plain_share: f64,
}

impl SuccessPrefixCurriculum {
    /// Whether start number `at` of the run is plain.
    fn is_plain(&self, at: u64) -> bool {
        is_among(self.plain_share, at)
    }

    fn select(&mut self) -> Option<Selection> {
        if self.is_plain(self.plain_cycle.taken() + self.prefixed_cycle.taken()) {
            let why = format!("plain, epoch {}", self.plain_cycle.epoch());
            return self.plain_cycle.take().map(|at| Selection::new(self.plain[at].clone(), why));
        }
        let epoch = self.prefixed_cycle.epoch();
        let start = self.prefixed_cycle.take().map(|at| self.prefixed[at].clone())?;
        let (given, of) = (start.prefix.len(), start.origin.as_ref().map_or(0, |origin| origin.source_tokens));
        Some(Selection::new(start, format!("{given} of {of} tokens of a success, epoch {epoch}")))
    }
}

impl Curriculum for SuccessPrefixCurriculum {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        (0..count).map_while(|_| self.select()).collect()
    }

    fn observe(&mut self, _selection: &Selection, _outcome: GroupOutcome) -> Fate {
        Fate::Learnt
    }

    fn state(&self) -> Value {
        json!({
            "plain": self.plain.len(),
            "plain_taken": self.plain_cycle.taken(),
            "prefixed": self.prefixed.len(),
            "prefixed_taken": self.prefixed_cycle.taken(),
        })
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let plain = restored(state, "plain", self.plain.len(), "plain_taken")?;
        let prefixed = restored(state, "prefixed", self.prefixed.len(), "prefixed_taken")?;
        self.plain_cycle.seek(plain);
        self.prefixed_cycle.seek(prefixed);
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let problems: BTreeSet<&str> = self.prefixed.iter().map(|start| start.problem.as_str()).collect();
        named([
            ("plain_epoch", self.plain_cycle.epoch() as f64),
            ("prefixed_epoch", self.prefixed_cycle.epoch() as f64),
            ("prefixes", self.prefixed.len() as f64),
            ("problems_with_prefix", problems.len() as f64),
        ])
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::tests::{ids, plain_starts, sources};
    use super::{Material, SuccessPrefix, success_prefixes};

    const PAPER: SuccessPrefix = SuccessPrefix { cuts: 3, from: 0.4, to: 0.8, plain_share: 0.25 };

    fn material() -> Material {
        Material { plain: plain_starts(6), sources: sources(4, 50, 50), ..Material::default() }
    }

    #[test]
    fn three_prefixes_per_trace_beside_plain_problems() {
        let mut curriculum = PAPER.build(material(), 0).unwrap();
        let lines: Vec<String> = curriculum
            .next(16)
            .iter()
            .map(|s| format!("{} {:?} {}", s.start.problem.as_str(), s.start.prefix.len(), s.why))
            .collect();
        expect![[r#"
            p0 24 24 of 50 tokens of a success, epoch 0
            p2 32 32 of 50 tokens of a success, epoch 0
            p3 25 25 of 50 tokens of a success, epoch 0
            p3 0 plain, epoch 0
            p1 33 33 of 50 tokens of a success, epoch 0
            p0 29 29 of 50 tokens of a success, epoch 0
            p1 36 36 of 50 tokens of a success, epoch 0
            p4 0 plain, epoch 0
            p1 23 23 of 50 tokens of a success, epoch 0
            p2 37 37 of 50 tokens of a success, epoch 0
            p2 21 21 of 50 tokens of a success, epoch 0
            p2 0 plain, epoch 0
            p3 38 38 of 50 tokens of a success, epoch 0
            p0 30 30 of 50 tokens of a success, epoch 0
            p3 31 31 of 50 tokens of a success, epoch 0
            p5 0 plain, epoch 0"#]]
        .assert_eq(&lines.join("\n"));
        let plain = |curriculum: &mut Box<dyn super::Curriculum>| {
            curriculum.next(128).iter().filter(|s| s.start.is_plain()).count()
        };
        assert_eq!([plain(&mut curriculum), plain(&mut curriculum)], [32, 32]);
    }

    #[test]
    fn prefixes_are_the_beginning_of_their_trace_and_stop_before_the_answer() {
        let starts = success_prefixes(&PAPER, &sources(4, 50, 24), 0);
        assert_eq!(starts.len(), 12);
        for start in starts {
            assert!((10..=19).contains(&start.prefix.len()));
            let first = 100 * start.prompt[0];
            assert!(start.prefix.iter().enumerate().all(|(at, &token)| token == first + at as u32));
        }
        assert!(success_prefixes(&PAPER, &sources(4, 50, 0), 0).is_empty());
    }

    #[test]
    fn failures_are_not_cut_and_order_does_not_matter() {
        let mut given = sources(4, 50, 50);
        let forwards = success_prefixes(&PAPER, &given, 0);
        given.reverse();
        given.iter_mut().for_each(|source| source.row = source.row.map(|row| row + 10));
        let ids = |starts: &[super::Start]| starts.iter().map(|start| start.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&success_prefixes(&PAPER, &given, 0)), ids(&forwards));
        assert_ne!(ids(&success_prefixes(&PAPER, &given, 1)), ids(&forwards));
        given.iter_mut().for_each(|source| source.is_correct = false);
        assert!(success_prefixes(&PAPER, &given, 0).is_empty());
    }

    #[test]
    fn one_kind_alone_is_all_there_is() {
        let only_plain = Material { sources: Vec::new(), ..material() };
        let only_prefixed = Material { plain: Vec::new(), ..material() };
        let mut curriculum = PAPER.build(only_plain, 0).unwrap();
        assert!(curriculum.next(20).iter().all(|s| s.start.is_plain()));
        let mut curriculum = PAPER.build(only_prefixed, 0).unwrap();
        assert_eq!(curriculum.next(20).iter().filter(|s| !s.start.is_plain()).count(), 20);
        assert!(PAPER.build(Material::default(), 0).is_err());
    }

    #[test]
    fn a_state_goes_on_exactly() {
        let all = ids(&PAPER.build(material(), 3).unwrap().next(60));
        for at in 0..60 {
            let mut before = PAPER.build(material(), 3).unwrap();
            before.next(at);
            let mut after = PAPER.build(material(), 3).unwrap();
            after.restore(&before.state()).unwrap();
            assert_eq!(ids(&after.next(60 - at)), all[at..], "after {at}");
        }
    }
}

//! A binary search, within the step, for how much of the solution a group that failed needs.
//!
//! ```text
//! n = number of the equal `parts` of the solution before its answer that are given
//! group of the plain problem, all of it failed → low = 1, high = parts
//! while low < high: n = ⌊(low + high) / 2⌋, a group from n parts, of success s
//!     s in [from, to] → done        s < from → low = n + 1        s > to → high = n
//! ```
//!
//! BREAD, arXiv 2506.17211: about 10 parts, so at most four more groups. The search is rebuilt from the
//! paper's description; its numbers for the range of success were not found, and there is no public code.
//! A problem that is solved at all is not searched, so guidance withdraws itself.
//!
//! What is learnt: every mixed group of a search, and its last one; a silent group on the way is dropped.
//!
//! Zero cases: parts of no token are skipped, so that a short solution has fewer. All parts together are
//! never given (`high` is not tried). A group without any verdict is not taken for failed. The plain
//! group of a problem without a solution is learnt as it is. A problem that comes twice in a round is
//! searched once.
//!
//! Departures: the paper puts the parts after the question and learns the group that it ends with; here
//! they begin the assistant's turn, and a mixed group that the search went past is learnt too, since it was
//! paid for and has a baseline of its own. Parts are equal in tokens, not paragraphs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use toehold_rollout::SuccessCount;

use super::guidance::{Guide, Tally, is_all_fail};
use super::{
    BuildError, Curriculum, Cycle, Fate, GroupOutcome, Material, RestoreError, Selection, Traces, kept, named, refuse,
};
use crate::recipe::{RecipeError, section};

section! {
    /// Settings of BREAD.
    Bread from BreadWritten {
        /// Equal parts of the solution before its answer; at least 2. BREAD: about 10.
        parts: usize = 10,
        /// The least success that ends a search, in `(0, to]`. The paper's number was not found.
        from: f64 = 0.25,
        /// The most success that ends a search, in `[from, 1]`. The paper's number was not found.
        to: f64 = 0.75,
    }
}

/// A binary search for the fewest parts whose success is in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    /// The fewest parts that can still be the ones.
    pub low: usize,
    /// The most; tried only if more than `low`.
    pub high: usize,
}

impl Search {
    /// A search among `1 ..= parts`: none at all is known to fail.
    pub fn new(parts: usize) -> Search {
        Search { low: 1, high: parts }
    }

    /// The parts to try next; none when the search is over.
    ///
    /// ```
    /// use toehold_rollout::SuccessCount;
    /// use toehold_training::curriculum::bread::Search;
    ///
    /// // Of 10 parts the policy needs 7: it fails with 5, and 8 are too easy.
    /// let of = |successes| SuccessCount { successes, attempts: 8 };
    /// let search = Search::new(10);
    /// assert_eq!(search.probe(), Some(5));
    /// let search = search.after(5, of(0), (0.25, 0.75)).unwrap();
    /// assert_eq!((search, search.probe()), (Search { low: 6, high: 10 }, Some(8)));
    /// let search = search.after(8, of(8), (0.25, 0.75)).unwrap();
    /// assert_eq!((search, search.probe()), (Search { low: 6, high: 8 }, Some(7)));
    /// // 3 of 8 is in the range: found.
    /// assert_eq!(search.after(7, of(3), (0.25, 0.75)), None);
    /// // 1 of 8 is not, and no other number is left.
    /// assert_eq!(search.after(7, of(1), (0.25, 0.75)), None);
    /// ```
    pub fn probe(self) -> Option<usize> {
        (self.low < self.high).then_some((self.low + self.high) / 2)
    }

    /// What is left to search after a group from so many parts; none when it is over.
    pub fn after(self, probe: usize, group: SuccessCount, (from, to): (f64, f64)) -> Option<Search> {
        let left = match group.rate() {
            Some(rate) if rate > to => Search { high: probe, ..self },
            Some(rate) if rate < from => Search { low: probe + 1, ..self },
            _ => return None,
        };
        left.probe().map(|_| left)
    }
}

impl Bread {
    pub(super) const TRACES: Traces = Traces::Solutions;

    pub(super) fn checked(self) -> Result<Bread, RecipeError> {
        match self {
            Bread { parts, .. } if parts < 2 => refuse("parts", parts, "at least 2"),
            Bread { to, .. } if !(0.0..=1.0).contains(&to) => refuse("to", to, "in [from, 1]"),
            Bread { from, to, .. } if !(from > 0.0 && from <= to) => refuse("from", from, "in (0, to]"),
            _ => Ok(self),
        }
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        let guide = Guide::new(material)?;
        let cycle = Cycle::new("plain starts", seed, guide.len());
        let shares: Vec<f64> = (1..=self.parts).map(|at| at as f64 / self.parts as f64).collect();
        let ladders = (0..guide.len()).map(|problem| guide.ladder(problem, &shares)).collect();
        let (settings, counts) = (self.clone(), Counts::default());
        Ok(Box::new(BreadCurriculum { settings, guide, ladders, cycle, counts, searches: BTreeMap::new() }))
    }
}

/// BREAD at work.
struct BreadCurriculum {
    settings: Bread,
    guide: Guide,
    /// The tokens that are 1, 2 ... parts of each problem.
    ladders: Vec<Vec<usize>>,
    cycle: Cycle,
    counts: Counts,
    /// The searches of this step by problem; none is left between steps.
    searches: BTreeMap<usize, Search>,
}

/// What happened in all steps.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Counts {
    /// Searches begun.
    begun: u64,
    /// Searches that ended within the range.
    found: u64,
    tally: Tally,
}

/// Its state.
#[derive(Serialize, Deserialize)]
struct Kept {
    taken: u64,
    counts: Counts,
}

impl BreadCurriculum {
    /// Hears of a plain group, and says whether a search begins.
    fn begin(&mut self, problem: usize, outcome: GroupOutcome) -> bool {
        let search = Search::new(self.ladders[problem].len());
        if !is_all_fail(outcome) || search.probe().is_none() || self.searches.contains_key(&problem) {
            return false;
        }
        self.counts.begun += 1;
        self.searches.insert(problem, search);
        true
    }

    /// Hears of a group of a search, and says whether it goes on.
    fn go_on(&mut self, problem: usize, given: usize, outcome: GroupOutcome) -> bool {
        let parts = self.ladders[problem].iter().position(|&length| length == given);
        let (Some(parts), Some(search)) = (parts, self.searches.remove(&problem)) else { return false };
        let range = (self.settings.from, self.settings.to);
        let is_found = outcome.count.rate().is_some_and(|rate| (range.0..=range.1).contains(&rate));
        self.counts.found += u64::from(is_found);
        let left = search.after(parts + 1, outcome.count, range);
        self.searches.extend(left.map(|left| (problem, left)));
        left.is_some()
    }
}

impl Curriculum for BreadCurriculum {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        self.searches.clear();
        let select = |_| {
            let why = format!("epoch {}", self.cycle.epoch());
            self.cycle.take().map(|problem| self.guide.select(problem, 0, &why))
        };
        (0..count).map_while(select).collect()
    }

    fn observe(&mut self, selection: &Selection, outcome: GroupOutcome) -> Fate {
        let given = selection.start.prefix.len();
        let is_searched = match self.guide.place(&selection.start) {
            None => false,
            Some(problem) if given == 0 => self.begin(problem, outcome),
            Some(problem) => self.go_on(problem, given, outcome),
        };
        let fate = if is_searched && !outcome.is_mixed() { Fate::Dropped } else { Fate::Learnt };
        self.counts.tally.add(selection, outcome, fate)
    }

    fn again(&mut self) -> Vec<Selection> {
        let select = |(&problem, search): (&usize, &Search)| {
            let given = self.ladders[problem][search.probe()? - 1];
            let why = format!("search between {} and {} parts", search.low, search.high);
            Some(self.guide.select(problem, given, &why))
        };
        self.searches.iter().filter_map(select).collect()
    }

    fn state(&self) -> Value {
        kept::keep(self.guide.name(), &Kept { taken: self.cycle.taken(), counts: self.counts })
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let Kept { taken, counts } = kept::kept(state, &self.guide.name())?;
        self.cycle.seek(taken);
        self.counts = counts;
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = named([
            ("epoch", self.cycle.epoch() as f64),
            ("searches", self.counts.begun as f64),
            ("searches_found", self.counts.found as f64),
        ]);
        metrics.extend(self.counts.tally.metrics());
        metrics.extend(self.guide.metrics());
        metrics
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::Curriculum;
    use super::super::guidance::world::{chance, learn, material, metrics, rows};
    use super::super::simulation::{check_resume, step};
    use super::Bread;

    fn build(parts: usize, problems: u32) -> Box<dyn Curriculum> {
        Bread { parts, from: 0.25, to: 0.75 }.build(material(problems), 3).unwrap()
    }

    #[track_caller]
    fn check(parts: usize, rise: f64, expected: Expect) {
        expected.assert_eq(&rows(&step(build(parts, 8).as_mut(), 0, 8, |start| chance(start, rise))));
    }

    #[test]
    fn a_group_that_failed_is_searched_for_what_it_needs() {
        check(
            10,
            0.0,
            expect![[r#"
            p7:0=0 p2:0=0- p6:0=9 p0:0=16 p3:0=0- p5:0=0- p4:0=0- p1:0=0-
            p1:50=16- p2:50=14 p3:50=2 p4:50=0- p5:50=0- p1:30=16- p2:30=2 p3:80=14
            p4:80=9 p5:80=0- p1:20=9 p2:40=4 p3:70=14 p5:90=0 p3:60=8"#]],
        );
        check(
            10,
            0.5,
            expect![[r#"
            p7:0=0 p2:0=15 p6:0=16 p0:0=16 p3:0=3 p5:0=0- p4:0=0- p1:0=16
            p4:50=16- p5:50=0- p4:30=9 p5:80=0- p5:90=0"#]],
        );
        // Two parts: one length to try.
        check(
            2,
            0.0,
            expect![[r#"
            p7:0=0 p2:0=0- p6:0=9 p0:0=16 p3:0=0- p5:0=0- p4:0=0- p1:0=0-
            p1:50=16 p2:50=14 p3:50=2 p4:50=0 p5:50=0"#]],
        );
    }

    /// Success rises by 0.02 a step: only what is beyond help is searched in the end.
    #[test]
    fn its_cost() {
        let mut curriculum = build(10, 8);
        learn(curriculum.as_mut(), 0..60, 8, 0.02);
        expect![[r#"
            dropped_rollouts 4704.000
            epoch 60.000
            given_tokens 59.630
            guided_rollouts 5616.000
            plain_rollouts 7680.000
            problems_uncuttable 1.000
            problems_without_solution 1.000
            searches 128.000
            searches_found 62.000"#]]
        .assert_eq(&metrics(curriculum.as_ref()));
        let late = learn(curriculum.as_mut(), 60..61, 8, 0.02);
        expect![[r#"
            p1:0=16 p2:0=16 p5:0=0- p6:0=16 p3:0=16 p7:0=0 p0:0=16 p4:0=16
            p5:50=0- p5:80=0- p5:90=0"#]]
        .assert_eq(&rows(&late[0]));
    }

    #[test]
    fn a_state_goes_on_exactly() {
        check_resume(|| build(10, 8), build(10, 7), 12, 5, |start, at| chance(start, 0.02 * at as f64));
    }
}

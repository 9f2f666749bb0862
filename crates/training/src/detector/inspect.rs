//! The detectors at work on the groups of one step.
//!
//! Order: the step's lengths go into the history, so that the moving averages include them; then every
//! completion is measured; then the successes that did not skip become what later ones are measured by, so
//! that a shortcut does not become its own reference.
//!
//! A completion is flagged by
//!
//! ```text
//! repetition   share > detect.repetition
//! skipping     a success, and ratio < detect.skipping
//! collapse     moving average < detect.collapse · first average, and the completion itself is as short
//! lone         the only success of a group of at least detect.lone
//! parroting    share > detect.parroting
//! answers      statements > detect.answers
//! ```
//!
//! The averages are those of its start. A plain start that came too rarely to have them is held against all
//! plain starts together; a prefixed one is not, because a curriculum that gives longer prefixes makes
//! completions shorter and nothing is wrong.
//!
//! Metrics, by name: `D/mean` over all values of the step, the percentile of the suspicious side (`D/p95`,
//! and `D/p05` where low is suspicious), and `D/flagged`, the completions. A value is a completion's, but for
//! the collapse, where it is a group's, and `lone/mean`, the share of groups with a success, of at least
//! `detect.lone`, that have a lone one. `collapse/plain` is the ratio of all plain starts together.
//!
//! Zero cases: what has no value (see [`ngrams`] and [`lengths`]) is not
//! flagged and not in the mean; a metric without values is left out, `D/flagged` never.

use std::collections::BTreeMap;

use toehold_rollout::{StartId, TokenId};

use super::history::History;
use super::lengths::{self, Series};
use super::{lone_success, percentile};
use crate::ngrams;
use crate::recipe::{Detect, Detector};

/// What the detectors see of a group.
#[derive(Clone, Debug)]
pub struct GroupView<'a> {
    /// Its start.
    pub start: &'a StartId,
    /// Whether nothing is given beside the problem.
    pub is_plain: bool,
    /// The tokens given.
    pub prefix: &'a [TokenId],
    /// What was sampled, by index.
    pub completions: Vec<CompletionView<'a>>,
}

/// What the detectors see of a completion.
#[derive(Clone, Copy, Debug)]
pub struct CompletionView<'a> {
    /// Its tokens.
    pub tokens: &'a [TokenId],
    /// What the verifier said.
    pub is_correct: bool,
    /// How many answers its text states, as [`statements`](super::answers::statements) counts them; none where
    /// there is no text.
    pub answers: Option<usize>,
}

/// What was found in a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// By group and completion: what flagged it, in the order of the detectors.
    pub flags: Vec<Vec<Vec<Detector>>>,
    /// Numbers that are worth a curve, by name.
    pub metrics: BTreeMap<String, f64>,
}

/// Measures the groups of a step and adds their lengths to `history`.
///
/// ```
/// use toehold_rollout::{ProblemId, StartId};
/// use toehold_training::detector::{CompletionView, GroupView, History, inspect};
/// use toehold_training::recipe::{Detect, Detector};
/// let settings = Detect::read(toml::Table::new(), "detect").unwrap();
/// let prefix = [1, 2, 3, 4];
/// let start = StartId::of(&ProblemId::from("p"), &[9], &prefix);
/// let completions = vec![
///     CompletionView { tokens: &[1, 2, 3, 4], is_correct: true, answers: None },
///     CompletionView { tokens: &[5, 6, 7, 8], is_correct: false, answers: None },
/// ];
/// let group = GroupView { start: &start, is_plain: false, prefix: &prefix, completions };
/// let found = inspect(&settings, &mut History::default(), &[group]);
/// assert_eq!(found.flags, [vec![vec![Detector::Parroting], vec![]]]);
/// assert_eq!((found.metrics["parroting/mean"], found.metrics["parroting/flagged"]), (0.5, 1.0));
/// ```
pub fn inspect(settings: &Detect, history: &mut History, groups: &[GroupView<'_>]) -> Findings {
    remember(settings, history, groups);
    let mut tally = Tally::default();
    let flags: Vec<Vec<Vec<Detector>>> =
        groups.iter().map(|group| flags(settings, history, group, &mut tally)).collect();
    for (group, flags) in groups.iter().zip(&flags) {
        history.succeed(group.start, &honest(group, flags));
    }
    history.end();
    let mut metrics = tally.metrics();
    metrics.extend(history.plain().collapse(settings.window).map(|ratio| ("collapse/plain".to_owned(), ratio)));
    Findings { flags, metrics }
}

fn remember(settings: &Detect, history: &mut History, groups: &[GroupView<'_>]) {
    history.begin();
    let (mut tokens, mut completions) = (0, 0);
    for group in groups {
        let of_group: u64 = group.completions.iter().map(CompletionView::length).sum();
        let count = group.completions.len() as u64;
        history.observe(group.start, of_group, count, settings.window);
        if group.is_plain {
            tokens += of_group;
            completions += count;
        }
    }
    history.observe_plain(tokens, completions, settings.window);
}

/// What flags each completion of a group.
fn flags(settings: &Detect, history: &History, group: &GroupView<'_>, tally: &mut Tally) -> Vec<Vec<Detector>> {
    let successes: Vec<u64> = successes(group).map(CompletionView::length).collect();
    let earlier = history.successes(group.start);
    let collapsed = collapsed_below(settings, history, group, tally);
    let lone = lone(settings, group, tally);
    let flags = |(at, completion): (usize, &CompletionView<'_>)| {
        let repetition = ngrams::repetition(completion.tokens, settings.ngram);
        let skipping =
            if completion.is_correct { lengths::skipping(completion.length(), &successes, &earlier) } else { None };
        let parroting = ngrams::parroting(completion.tokens, group.prefix, settings.ngram);
        tally.add(Detector::Repetition, Some(repetition));
        tally.add(Detector::Skipping, skipping);
        tally.add(Detector::Parroting, parroting);
        tally.add(Detector::Answers, completion.answers.map(|answers| answers as f64));
        let flagged = [
            (Detector::Repetition, repetition > settings.repetition),
            (Detector::Skipping, skipping.is_some_and(|ratio| ratio < settings.skipping)),
            (Detector::Collapse, collapsed.is_some_and(|limit| (completion.length() as f64) < limit)),
            (Detector::Lone, lone == Some(at)),
            (Detector::Parroting, parroting.is_some_and(|share| share > settings.parroting)),
            (Detector::Answers, completion.answers.is_some_and(|answers| answers > settings.answers as usize)),
        ];
        let flagged: Vec<Detector> = flagged.into_iter().filter(|(_, is)| *is).map(|(detector, _)| detector).collect();
        tally.flag(&flagged);
        flagged
    };
    group.completions.iter().enumerate().map(flags).collect()
}

/// The length below which a completion goes with a collapse; none where there is none.
fn collapsed_below(settings: &Detect, history: &History, group: &GroupView<'_>, tally: &mut Tally) -> Option<f64> {
    let of = |series: &Series| Some((series.collapse(settings.window)?, series.first()?));
    let of_start = history.of_start(group.start).and_then(of);
    tally.add(Detector::Collapse, of_start.map(|(ratio, _)| ratio));
    let (ratio, first) = of_start.or_else(|| of(history.plain()).filter(|_| group.is_plain))?;
    (ratio < settings.collapse).then_some(settings.collapse * first)
}

fn lone(settings: &Detect, group: &GroupView<'_>, tally: &mut Tally) -> Option<usize> {
    let is_correct: Vec<bool> = group.completions.iter().map(|completion| completion.is_correct).collect();
    if is_correct.len() < settings.lone as usize || !is_correct.contains(&true) {
        return None;
    }
    let lone = lone_success(&is_correct);
    tally.add(Detector::Lone, Some(f64::from(u8::from(lone.is_some()))));
    lone
}

/// The lengths of the successes that did not skip.
fn honest(group: &GroupView<'_>, flags: &[Vec<Detector>]) -> Vec<u64> {
    let both = group.completions.iter().zip(flags);
    let honest = both.filter(|(completion, flags)| completion.is_correct && !flags.contains(&Detector::Skipping));
    honest.map(|(completion, _)| completion.length()).collect()
}

fn successes<'a>(group: &'a GroupView<'_>) -> impl Iterator<Item = &'a CompletionView<'a>> {
    group.completions.iter().filter(|completion| completion.is_correct)
}

impl CompletionView<'_> {
    fn length(&self) -> u64 {
        self.tokens.len() as u64
    }
}

/// The values of a step, and how many completions were flagged.
#[derive(Default)]
struct Tally {
    values: BTreeMap<Detector, Vec<f64>>,
    flagged: BTreeMap<Detector, u64>,
}

impl Tally {
    fn add(&mut self, detector: Detector, value: Option<f64>) {
        self.values.entry(detector).or_default().extend(value);
    }

    fn flag(&mut self, detectors: &[Detector]) {
        for &detector in detectors {
            *self.flagged.entry(detector).or_default() += 1;
        }
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::new();
        for detector in Detector::ALL {
            let name = detector.name();
            let flagged = self.flagged.get(&detector).copied().unwrap_or(0);
            metrics.insert(format!("{name}/flagged"), flagged as f64);
            let Some(values) = self.values.get(&detector).filter(|values| !values.is_empty()) else { continue };
            metrics.insert(format!("{name}/mean"), values.iter().sum::<f64>() / values.len() as f64);
            let tail = match detector {
                Detector::Repetition | Detector::Parroting | Detector::Answers => Some(95),
                Detector::Skipping | Detector::Collapse => Some(5),
                Detector::Lone => None,
            };
            let value = tail.and_then(|percent| Some((percent, percentile(values, percent)?)));
            metrics.extend(value.map(|(percent, value)| (format!("{name}/p{percent:02}"), value)));
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use expect_test::{Expect, expect};
    use toehold_rollout::{ProblemId, StartId, TokenId};

    use super::{CompletionView, GroupView, History, inspect};
    use crate::recipe::{Detect, Detector};

    /// A prefix, and completions that are correct or not.
    type Group<'a> = (&'a [TokenId], &'a [(bool, &'a [TokenId])]);

    fn settings(text: &str) -> Detect {
        Detect::read(text.parse().unwrap(), "detect").unwrap()
    }

    /// The steps one after the other, one group each, and what was found in the last.
    #[track_caller]
    fn check(text: &str, steps: &[Group<'_>], expected: Expect) {
        let (mut history, mut found) = (History::default(), Default::default());
        for (prefix, completions) in steps {
            let start = StartId::of(&ProblemId::from("p"), &[0], prefix);
            let completions = completions.iter();
            let completions =
                completions.map(|&(is_correct, tokens)| CompletionView { tokens, is_correct, answers: None }).collect();
            let group = GroupView { start: &start, is_plain: prefix.is_empty(), prefix, completions };
            found = inspect(&settings(text), &mut history, &[group]);
        }
        let mut shown = String::new();
        for flags in found.flags.iter().flatten() {
            writeln!(shown, "{flags:?}").unwrap();
        }
        for (name, value) in &found.metrics {
            if *value != 0.0 {
                writeln!(shown, "{name} {value:.3}").unwrap();
            }
        }
        expected.assert_eq(&shown);
    }

    const LONG: &[TokenId] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    #[test]
    fn one_group() {
        // One token for ever repeats 9 of its 10 runs of three, whether it is correct or not.
        check(
            "",
            &[(&[], &[(true, LONG), (false, &[7; 12]), (true, LONG)])],
            expect![[r#"
            []
            [Repetition]
            []
            repetition/flagged 1.000
            repetition/mean 0.300
            repetition/p95 0.900
        "#]],
        );
        // 1 of 12 tokens, where the median of the successes is 12; the failure beside it is only short.
        check(
            "",
            &[(&[], &[(true, LONG), (true, LONG), (true, &[1]), (false, &[1])])],
            expect![[r#"
            []
            []
            [Skipping]
            []
            skipping/flagged 1.000
            skipping/mean 0.694
            skipping/p05 0.083
        "#]],
        );
        // Four attempts and one success; three attempts are too few to call it lone.
        check(
            "",
            &[(&[], &[(true, LONG), (false, LONG), (false, LONG), (false, LONG)])],
            expect![[r#"
            [Lone]
            []
            []
            []
            lone/flagged 1.000
            lone/mean 1.000
        "#]],
        );
        check(
            "",
            &[(&[], &[(true, LONG), (false, LONG), (false, LONG)])],
            expect![[r#"
            []
            []
            []
        "#]],
        );
        // Two of the three runs of 3 4 5 6 7 are the prefix's; half of them would not be enough.
        check(
            "",
            &[(&[3, 4, 5, 6], &[(false, &[3, 4, 5, 6, 7])])],
            expect![[r#"
            [Parroting]
            parroting/flagged 1.000
            parroting/mean 0.667
            parroting/p95 0.667
        "#]],
        );
        check(
            "",
            &[(&[3, 4, 5], &[(false, &[3, 4, 5, 6])])],
            expect![[r#"
            []
            parroting/mean 0.500
            parroting/p95 0.500
        "#]],
        );
    }

    #[test]
    fn one_step_after_another() {
        // The group that skips as a whole is measured by the successes before it, and does not join them.
        let honest: Group<'_> = (&[], &[(true, LONG), (true, LONG), (true, LONG)]);
        let skips: Group<'_> = (&[], &[(true, &[1]), (true, &[1]), (true, &[1])]);
        check(
            "",
            &[honest, skips],
            expect![[r#"
            [Skipping]
            [Skipping]
            [Skipping]
            skipping/flagged 3.000
            skipping/mean 0.083
            skipping/p05 0.083
        "#]],
        );
        check(
            "",
            &[honest, skips, skips, skips, skips],
            expect![[r#"
            [Skipping]
            [Skipping]
            [Skipping]
            skipping/flagged 3.000
            skipping/mean 0.083
            skipping/p05 0.083
        "#]],
        );
        // Another start has its own past.
        check(
            "",
            &[honest, (&[1], &[(true, &[1]), (true, &[1]), (true, &[1])])],
            expect![[r#"
            []
            []
            []
            skipping/mean 1.000
            skipping/p05 1.000
        "#]],
        );
        // A window of one group. Of the collapsed group only the short completion is flagged.
        let short: Group<'_> = (&[], &[(true, LONG), (false, &[]), (false, &[]), (false, &[])]);
        let before: Group<'_> = (&[], &[(false, LONG), (false, LONG)]);
        check(
            "window = 1\nlone = 9",
            &[before, short],
            expect![[r#"
            []
            [Collapse]
            [Collapse]
            [Collapse]
            collapse/flagged 3.000
            collapse/mean 0.250
            collapse/p05 0.250
            collapse/plain 0.250
        "#]],
        );
        // Not collapsed before the window has passed.
        check(
            "window = 2\nlone = 9",
            &[before, short],
            expect![[r#"
            []
            []
            []
            []
        "#]],
        );
    }

    /// Ten starts that come once each: together they have a first average, 12 tokens, of which 1 is a twelfth.
    #[test]
    fn a_plain_start_without_a_past_is_held_against_all_of_them() {
        let flags = |is_plain: bool| {
            let (mut history, mut found) = (History::default(), Default::default());
            for problem in 0..10u32 {
                let start = StartId::of(&ProblemId::from(format!("p{problem}")), &[0], &[]);
                let tokens = if problem < 5 { LONG } else { &LONG[..1] };
                let completions = vec![CompletionView { tokens, is_correct: false, answers: None }; 2];
                let group = GroupView { start: &start, is_plain, prefix: &[], completions };
                found = inspect(&settings("window = 4"), &mut history, &[group]);
            }
            assert_eq!(history.starts(), 10);
            (found.flags, found.metrics.get("collapse/plain").copied(), found.metrics.contains_key("collapse/mean"))
        };
        assert_eq!(flags(true), (vec![vec![vec![Detector::Collapse]; 2]], Some(1.0 / 12.0), false));
        // What was given may be the reason for the length.
        assert_eq!(flags(false), (vec![vec![vec![]; 2]], None, false));
    }

    /// Three answers are put up with, a fourth is not; what has no text is not counted.
    #[test]
    fn answers_are_counted_where_there_is_text() {
        let start = StartId::of(&ProblemId::from("p"), &[0], &[]);
        let completion = |answers| CompletionView { tokens: LONG, is_correct: true, answers };
        let completions = [Some(1), Some(3), Some(4), None].map(completion).into();
        let group = GroupView { start: &start, is_plain: true, prefix: &[], completions };
        let found = inspect(&settings(""), &mut History::default(), &[group]);
        assert_eq!(found.flags, [vec![vec![], vec![], vec![Detector::Answers], vec![]]]);
        let of = |name: &str| found.metrics[&format!("answers/{name}")];
        assert_eq!((of("mean"), of("p95"), of("flagged")), (8.0 / 3.0, 4.0, 1.0));
    }

    #[test]
    fn nothing_is_no_finding() {
        check("", &[(&[], &[])], expect![[""]]);
        check(
            "",
            &[(&[], &[(false, &[])])],
            expect![[r#"
            []
        "#]],
        );
        let found = inspect(&settings(""), &mut History::default(), &[]);
        assert!(found.flags.is_empty() && found.metrics.values().all(|&value| value == 0.0));
    }
}

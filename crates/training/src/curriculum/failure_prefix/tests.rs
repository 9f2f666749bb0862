//! A world whose success is known: problem i recovers from a failure's first part of share x with
//! chance σ(14 (reach(i) + skill − x)), so its success is 0.5 where x is reach(i) + skill.

use expect_test::{Expect, expect};
use toehold_rollout::{ProblemId, SuccessCount};

use super::super::tests::{ids, plain_starts};
use super::super::{Curriculum, GroupOutcome, Material, Selection, Source};
use super::{FailurePrefix, failure_prefixes};
use crate::random;

pub(super) const PAPER: FailurePrefix = FailurePrefix {
    cuts: 9,
    target: 0.5,
    saturated: 0.96875,
    rollouts: 16,
    low: 0.2,
    high: 0.8,
    refreshes: 1,
    drift: 0.5,
    patience: 5,
    gain: 0.01,
};

/// Enough rollouts that luck chooses no cut: where the nearest is at 0.5, its neighbours are at 0.8 and 0.2.
const SURE: FailurePrefix = FailurePrefix { rollouts: 64, ..PAPER };

const GROUP: u64 = 32;

/// Where each problem recovers half of the time. The last two recover from everything and from nothing.
const REACH: [f64; 6] = [0.2, 0.3, 0.4, 0.5, 3.0, -3.0];

/// A trace of problem `at` whose tokens depend on `row`.
fn trace(at: usize, row: i64, is_correct: bool) -> Source {
    Source {
        problem: ProblemId::from(format!("p{at}")),
        prompt: vec![at as u32],
        tokens: (0..100).map(|token| 1_000 * row as u32 + token).collect(),
        row: Some(row),
        is_correct,
        limit: 100,
        inside: Vec::new(),
    }
}

/// 31 successes and a failure.
fn saturated(at: usize) -> Vec<Source> {
    (0..32).map(|attempt| trace(at, 32 * at as i64 + attempt, attempt != 7)).collect()
}

fn material() -> Material {
    let sources = (0..REACH.len()).flat_map(saturated).collect();
    Material { plain: plain_starts(REACH.len() as u32), sources, ..Material::default() }
}

fn success(selection: &Selection, skill: f64) -> f64 {
    let share = selection.start.prefix.len() as f64 / 100.0;
    let reach = REACH[selection.start.prompt[0] as usize];
    1.0 / (1.0 + (-14.0 * (reach + skill - share)).exp())
}

/// One step of training at this skill: the starts that were chosen.
fn step(curriculum: &mut dyn Curriculum, at: u64, starts: usize, skill: f64) -> Vec<Selection> {
    step_of_groups(curriculum, at, (starts, GROUP), skill)
}

fn step_of_groups(
    curriculum: &mut dyn Curriculum,
    at: u64,
    (starts, group): (usize, u64),
    skill: f64,
) -> Vec<Selection> {
    let selections = curriculum.next(starts);
    for (index, selection) in selections.iter().enumerate() {
        let mut rng = random::stream(11, "world", &[at, index as u64]);
        let mut count = SuccessCount::default();
        (0..group).for_each(|_| count.add(random::unit(&mut rng) < success(selection, skill)));
        curriculum.observe(selection, GroupOutcome { count, ..GroupOutcome::default() });
    }
    selections
}

fn run(curriculum: &mut dyn Curriculum, steps: std::ops::Range<u64>, skill: f64) -> Vec<Selection> {
    steps.flat_map(|at| step(curriculum, at, 9, skill)).collect()
}

/// The different starts among `selections`, as problem and length of the prefix.
fn places(selections: &[Selection]) -> String {
    let mut places: Vec<String> =
        selections.iter().map(|s| format!("{}:{}", s.start.problem.as_str(), s.start.prefix.len())).collect();
    places.sort();
    places.dedup();
    places.join(" ")
}

fn metric(curriculum: &dyn Curriculum, name: &str) -> f64 {
    curriculum.metrics()[&format!("curriculum/{name}")]
}

/// Steps of 9 groups until every cut of `problems` has 64 rollouts, 32 at a time.
fn estimating_steps(problems: u64) -> u64 {
    problems * 2
}

#[test]
fn it_finds_the_cut_nearest_the_target_and_keeps_it() {
    let settings = FailurePrefix { refreshes: 0, ..SURE };
    let mut curriculum = settings.build(material(), 0).unwrap();
    let estimating = run(curriculum.as_mut(), 0..estimating_steps(6), 0.0);
    assert_eq!(places(&estimating).split(' ').count(), 6 * 9);
    assert!(estimating.iter().all(|selection| selection.why.starts_with("estimate")));
    // Problem 4 recovers from everything, problem 5 from nothing: both are dropped.
    let training = run(curriculum.as_mut(), 12..40, 0.0);
    expect!["p0:20 p1:30 p2:40 p3:50"].assert_eq(&places(&training));
    expect![[r#"
        p1 30 success 36/64 when chosen, 30 of 100 tokens of a failure, round 0
        p0 20 success 44/64 when chosen, 20 of 100 tokens of a failure, round 0
        p3 50 success 36/64 when chosen, 50 of 100 tokens of a failure, round 0
        p2 40 success 29/64 when chosen, 40 of 100 tokens of a failure, round 0"#]]
    .assert_eq(&lines(&training[..4]));
    expect![[r#"
        cuts_to_estimate 0.000
        estimating_rollouts 3456.000
        flat_epochs 39.000
        prefix_share 0.350
        problems_dropped 2.000
        problems_in_use 4.000
        problems_stale 0.000
        problems_uncuttable 0.000
        problems_unsaturated 0.000
        problems_without_failure 0.000
        round 0.000
        success_when_chosen 0.566
        training_rollouts 8064.000"#]]
    .assert_eq(&metrics(curriculum.as_ref()));
}

fn lines(selections: &[Selection]) -> String {
    let line = |s: &Selection| format!("{} {} {}", s.start.problem.as_str(), s.start.prefix.len(), s.why);
    selections.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn metrics(curriculum: &dyn Curriculum) -> String {
    let line = |(name, value): (String, f64)| format!("{} {value:.3}", name.trim_start_matches("curriculum/"));
    curriculum.metrics().into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// How many of 800 choices fall how many cuts beside the nearest, after so many rollouts of each cut. The
/// percentages in docs/methods/curriculum/failure-prefix.md are these.
#[track_caller]
fn check_choices(rollouts: u64, expected: Expect) {
    let mut beside = [0u32; 9];
    for seed in 0..200 {
        let mut curriculum = FailurePrefix { rollouts, refreshes: 0, ..PAPER }.build(material(), seed).unwrap();
        // One step that gives every cut one group; the steps' numbers are their luck.
        step_of_groups(curriculum.as_mut(), seed, (54, rollouts), 0.0);
        for selection in step(curriculum.as_mut(), seed, 4, 0.0) {
            let nearest = (100.0 * REACH[selection.start.prompt[0] as usize]).round() as usize;
            beside[selection.start.prefix.len().abs_diff(nearest) / 10] += 1;
        }
    }
    expected.assert_eq(&format!("{beside:?}"));
}

#[test]
fn more_rollouts_choose_more_surely() {
    check_choices(8, expect!["[569, 214, 16, 1, 0, 0, 0, 0, 0]"]);
    check_choices(16, expect!["[715, 83, 2, 0, 0, 0, 0, 0, 0]"]);
    check_choices(32, expect!["[784, 16, 0, 0, 0, 0, 0, 0, 0]"]);
    check_choices(64, expect!["[800, 0, 0, 0, 0, 0, 0, 0, 0]"]);
}

#[test]
fn drift_moves_the_cuts() {
    let mut curriculum = FailurePrefix { patience: 1_000, ..SURE }.build(material(), 0).unwrap();
    run(curriculum.as_mut(), 0..12, 0.0);
    assert_eq!(metric(curriculum.as_ref(), "round"), 0.0);
    // As long as nothing changes, nothing is estimated again.
    let before = run(curriculum.as_mut(), 12..60, 0.0);
    expect!["p0:20 p1:30 p2:40 p3:50"].assert_eq(&places(&before));
    // The policy improves: the chosen cuts are solved, and all cuts of what is in use are looked at again.
    let noticing = run(curriculum.as_mut(), 60..64, 0.3);
    assert!(noticing.iter().any(|selection| selection.why.starts_with("estimate")), "{}", lines(&noticing));
    run(curriculum.as_mut(), 64..76, 0.3);
    let after = run(curriculum.as_mut(), 76..90, 0.3);
    expect!["p0:50 p1:60 p2:70 p3:80"].assert_eq(&places(&after));
    assert_eq!(metric(curriculum.as_ref(), "round"), 1.0);
    // The one refresh is used up.
    let later = run(curriculum.as_mut(), 90..140, 0.6);
    assert_eq!(places(&later), places(&after));
    assert_eq!(metric(curriculum.as_ref(), "problems_stale"), 4.0);
}

#[test]
fn a_plateau_refreshes_too() {
    let settings = FailurePrefix { drift: 1.0, patience: 3, gain: 0.05, ..SURE };
    let mut curriculum = settings.build(material(), 0).unwrap();
    run(curriculum.as_mut(), 0..12, 0.0);
    let mut at = 12;
    while metric(curriculum.as_ref(), "round") == 0.0 && at < 200 {
        run(curriculum.as_mut(), at..at + 1, 0.0);
        at += 1;
    }
    // Nothing was learnt, so the cuts are the same.
    assert!((14..100).contains(&at), "{at}");
    run(curriculum.as_mut(), at..at + 9, 0.0);
    expect!["p0:20 p1:30 p2:40 p3:50"].assert_eq(&places(&run(curriculum.as_mut(), at + 9..at + 12, 0.0)));
}

#[test]
fn without_a_usable_cut_starts_are_plain() {
    let only = |at: usize| Material { plain: plain_starts(6), sources: saturated(at), ..Material::default() };
    for unusable in [4, 5] {
        let mut curriculum = PAPER.build(only(unusable), 0).unwrap();
        run(curriculum.as_mut(), 0..2, 0.0);
        let after = run(curriculum.as_mut(), 2..10, 0.0);
        expect!["p0:0 p1:0 p2:0 p3:0 p4:0 p5:0"].assert_eq(&places(&after));
        assert_eq!(metric(curriculum.as_ref(), "problems_dropped"), 1.0);
    }
}

#[test]
fn a_state_goes_on_exactly() {
    let settings = FailurePrefix { patience: 3, gain: 0.05, refreshes: 2, ..SURE };
    let skill = |at: u64| 0.01 * at as f64;
    let mut whole = settings.build(material(), 3).unwrap();
    // Seven starts, so that rounds end in the middle of a step.
    let all: Vec<Vec<String>> = (0..80).map(|at| ids(&step(whole.as_mut(), at, 7, skill(at)))).collect();
    assert_eq!(metric(whole.as_ref(), "round"), 2.0);
    let mut before = settings.build(material(), 3).unwrap();
    for cut in 0..80 {
        let text = before.state().to_string();
        let mut after = settings.build(material(), 3).unwrap();
        after.restore(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(after.metrics(), before.metrics());
        for at in cut..(cut + 12).min(80) {
            assert_eq!(ids(&step(after.as_mut(), at, 7, skill(at))), all[at as usize], "from {cut}, at {at}");
        }
        step(before.as_mut(), cut, 7, skill(cut));
    }
    assert_eq!(before.state(), whole.state());
}

#[test]
fn a_state_of_other_material_is_refused() {
    let state = PAPER.build(material(), 0).unwrap().state();
    let mut fewer = material();
    fewer.sources.retain(|source| source.problem.as_str() != "p2");
    let mut other = PAPER.build(fewer, 0).unwrap();
    let error = other.restore(&state).unwrap_err().to_string();
    assert!(error.starts_with("the curriculum's state does not fit: its starts are "), "{error}");
    let mut broken = state.clone();
    broken["state"]["progress"]["problems"][0]["standing"] = serde_json::json!({ "chosen": 9 });
    let error = PAPER.build(material(), 0).unwrap().restore(&broken).unwrap_err().to_string();
    expect!["the curriculum's state does not fit: `progress` is of other cuts"].assert_eq(&error);
}

#[track_caller]
fn check_screened(sources: Vec<Source>, expected: Expect) {
    let screened = failure_prefixes(&PAPER, &sources, 0);
    let problem = |starts: &Vec<super::Start>| {
        let cuts: Vec<usize> = starts.iter().map(|start| start.prefix.len()).collect();
        let row = starts[0].origin.as_ref().unwrap().trace.unwrap();
        assert!(starts.iter().all(|start| start.prefix[0] == 1_000 * row as u32));
        format!("{} row {row} {cuts:?}", starts[0].problem.as_str())
    };
    let problems: Vec<String> = screened.problems.iter().map(problem).collect();
    let counts = [screened.unsaturated, screened.without_failure, screened.uncuttable];
    expected.assert_eq(&format!("{} {counts:?}", problems.join(", ")));
}

#[test]
fn problems_that_are_used() {
    check_screened(saturated(0), expect!["p0 row 7 [10, 20, 30, 40, 50, 60, 70, 80, 90] [0, 0, 0]"]);
    // 30 of 32 is too few, 62 of 64 is enough; of its two failures one is drawn.
    let mut two = saturated(0);
    two[9].is_correct = false;
    check_screened(two.clone(), expect![" [1, 0, 0]"]);
    two.extend((32..64).map(|row| trace(0, row, true)));
    check_screened(two.clone(), expect!["p0 row 9 [10, 20, 30, 40, 50, 60, 70, 80, 90] [0, 0, 0]"]);
    two.reverse();
    check_screened(two, expect!["p0 row 9 [10, 20, 30, 40, 50, 60, 70, 80, 90] [0, 0, 0]"]);
    let always: Vec<Source> = (0..32).map(|row| trace(0, row, true)).collect();
    check_screened(always, expect![" [0, 1, 0]"]);
    // The only failure ran out of tokens, or answers at once.
    let mut uncuttable = saturated(0);
    uncuttable[7].limit = 0;
    check_screened(uncuttable, expect![" [0, 0, 1]"]);
    // Its answer begins after 50 tokens.
    let mut early = saturated(0);
    early[7].limit = 50;
    check_screened(early, expect!["p0 row 7 [5, 10, 15, 20, 25, 30, 35, 40, 45] [0, 0, 0]"]);
}

#[test]
fn the_drawn_failure_depends_on_the_seed_alone() {
    let sources: Vec<Source> = (0..64).map(|row| trace(0, row, row > 1)).collect();
    let drawn = |seed| failure_prefixes(&PAPER, &sources, seed).problems[0][0].origin.as_ref().unwrap().trace.unwrap();
    let rows: Vec<i64> = (0..20).map(drawn).collect();
    assert!(rows.contains(&0) && rows.contains(&1), "{rows:?}");
}

#[test]
fn without_a_failure_the_run_does_not_begin() {
    let sources = (0..32).map(|row| trace(0, row, true)).collect();
    let error = PAPER.build(Material { plain: plain_starts(3), sources, ..Material::default() }, 0).err().unwrap();
    expect![[r#"
        no failure prefix can be cut: of 3 problems, 0 are solved too rarely, 3 have no failure, 0 none that can be cut
        hint: collect more (until = "max-attempts"), or lower [curriculum] saturated"#]]
    .assert_eq(&error.to_string());
}

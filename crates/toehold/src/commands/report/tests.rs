//! Data in, text out: how runs become arms, and what is said of them.

use expect_test::{Expect, expect};
use toehold_rollout::SuccessCount;

use super::compare::{End, RunCurves, compare};
use super::seeds::{merge_arms, merge_rows};
use super::tables::{markdown, tables, text};
use crate::report::{Arm, Estimate, Evaluation, HeadlineRow};

/// A run that was measured at the given FLOPs and rates, without an evaluation at the end.
fn run(arm: &str, seed: u64, collection: f64, points: &[(f64, f64)]) -> RunCurves {
    let train = points.iter().map(|&(flops, rate)| (flops, rate / 2.0)).collect();
    RunCurves { arm: arm.into(), seed, collection, steps: 10, train, held_out: points.to_vec(), end: None }
}

/// Two arms on two seeds whose budgets differ, because finding prefixes did.
fn two_seeds() -> Vec<RunCurves> {
    let end = |held_out| Some(End { train: Some(0.5), held_out: Some(held_out), pass_at_k: vec![(1, 0.1), (4, 0.3)] });
    vec![
        RunCurves { end: end(0.62), ..run("prefix-rl", 0, 1e12, &[(1e12, 0.0), (1.5e12, 0.55), (2e12, 0.6)]) },
        RunCurves { end: end(0.42), ..run("prefix-rl", 1, 3e12, &[(3e12, 0.0), (4e12, 0.4)]) },
        run("plain-rl", 0, 0.0, &[(0.0, 0.0), (1e12, 0.1), (2.01e12, 0.1), (9e12, 0.9)]),
        RunCurves { end: end(0.02), ..run("plain-rl", 1, 0.0, &[(0.0, 0.0), (2e12, 0.3), (4e12, 0.0)]) },
    ]
}

#[track_caller]
fn check(runs: &[RunCurves], expected: Expect) {
    expected.assert_eq(&text(&tables(&compare(runs, 0.5))));
}

#[test]
fn arms_over_seeds() {
    check(
        &two_seeds(),
        expect![[r#"
        Success without a prefix at the same compute, collection included; means over 2 seeds with Student's 95 % interval.

        arm        seeds             held out                train    compute  of it collecting  steps
        ──────────────────────────────────────────────────────────────────────────────────────────────
        prefix-rl      2  52.0 % [0.0, 100.0]  50.0 % [50.0, 50.0]  3.0 TFLOP         2.0 TFLOP     10
        plain-rl       2    6.0 % [0.0, 56.8]  27.5 % [0.0, 100.0]  3.0 TFLOP            0 FLOP     10


        Seed by seed. The difference is paired: each seed with the same seed of the first arm.

        arm        problems  seed 0  seed 1  minus prefix-rl [95 %]
        ───────────────────────────────────────────────────────────
        prefix-rl  held out  62.0 %  42.0 %                       –
        prefix-rl  train     50.0 %  50.0 %                       –
        plain-rl   held out  10.0 %   2.0 %    -46.0 [-122.2, 30.2]
        plain-rl   train      5.0 %  50.0 %   -22.5 [-308.4, 263.4]


        Compute when success on held-out problems was first measured at a rate, over the seeds that got there. 45.0 % is the best that plain-rl ever was, on its mean over seeds.

        arm        to 45.0 %    compute  without collecting  to 50.0 %    compute  without collecting
        ─────────────────────────────────────────────────────────────────────────────────────────────
        prefix-rl     1 of 2  1.5 TFLOP           500 GFLOP     1 of 2  1.5 TFLOP           500 GFLOP
        plain-rl      1 of 2  9.0 TFLOP           9.0 TFLOP     1 of 2  9.0 TFLOP           9.0 TFLOP


        pass@k on held-out problems, of runs that ended at that compute; means over 2 seeds with Student's 95 % interval.

        arm                     pass@1               pass@4
        ───────────────────────────────────────────────────
        prefix-rl  10.0 % [10.0, 10.0]  30.0 % [30.0, 30.0]
        plain-rl                10.0 %               30.0 %"#]],
    );
}

#[test]
fn one_seed_has_no_intervals() {
    check(
        &two_seeds().into_iter().filter(|run| run.seed == 0).collect::<Vec<_>>(),
        expect![[r#"
        Success without a prefix at the same compute, collection included; one seed, so without intervals over seeds.

        arm        seeds  held out   train    compute  of it collecting  steps
        ──────────────────────────────────────────────────────────────────────
        prefix-rl      1    62.0 %  50.0 %  2.0 TFLOP         1.0 TFLOP     10
        plain-rl       1    10.0 %   5.0 %  2.0 TFLOP            0 FLOP     10


        Compute when success on held-out problems was first measured at a rate, over the seeds that got there. 90.0 % is the best that plain-rl ever was, on its mean over seeds.

        arm        to 90.0 %    compute  without collecting  to 50.0 %    compute  without collecting
        ─────────────────────────────────────────────────────────────────────────────────────────────
        prefix-rl     0 of 1          –                   –     1 of 1  1.5 TFLOP           500 GFLOP
        plain-rl      1 of 1  9.0 TFLOP           9.0 TFLOP     1 of 1  9.0 TFLOP           9.0 TFLOP


        pass@k on held-out problems, of runs that ended at that compute; one seed, so without intervals over seeds.

        arm        pass@1  pass@4
        ─────────────────────────
        prefix-rl  10.0 %  30.0 %
        plain-rl        –       –"#]],
    );
}

#[test]
fn a_seed_without_a_pair_and_a_baseline_without_success() {
    let mut runs = two_seeds();
    runs.remove(3);
    runs[2].held_out = vec![(0.0, 0.0), (2e12, 0.0)];
    check(
        &runs,
        expect![[r#"
        Success without a prefix at the same compute, collection included; means over 2 seeds with Student's 95 % interval.

        arm        seeds             held out                train    compute  of it collecting  steps
        ──────────────────────────────────────────────────────────────────────────────────────────────
        prefix-rl      2  52.0 % [0.0, 100.0]  50.0 % [50.0, 50.0]  3.0 TFLOP         2.0 TFLOP     10
        plain-rl       1                0.0 %                5.0 %  2.0 TFLOP            0 FLOP     10


        Seed by seed. The difference is paired: each seed with the same seed of the first arm.

        arm        problems  seed 0  seed 1  minus prefix-rl [95 %]
        ───────────────────────────────────────────────────────────
        prefix-rl  held out  62.0 %  42.0 %                       –
        prefix-rl  train     50.0 %  50.0 %                       –
        plain-rl   held out   0.0 %       –                   -62.0
        plain-rl   train      5.0 %       –                   -45.0


        Compute when success on held-out problems was first measured at a rate, over the seeds that got there.

        arm        to 50.0 %    compute  without collecting
        ───────────────────────────────────────────────────
        prefix-rl     1 of 2  1.5 TFLOP           500 GFLOP
        plain-rl      0 of 1          –                   –


        pass@k on held-out problems, of runs that ended at that compute; means over 2 seeds with Student's 95 % interval.

        arm                     pass@1               pass@4
        ───────────────────────────────────────────────────
        prefix-rl  10.0 % [10.0, 10.0]  30.0 % [30.0, 30.0]
        plain-rl                     –                    –"#]],
    );
}

#[test]
fn nothing_measured() {
    check(
        &[run("a", 0, 0.0, &[]), run("b", 0, 0.0, &[])],
        expect![[r#"
        Success without a prefix at the same compute, collection included; one seed, so without intervals over seeds.

        arm  seeds  held out  train  compute  of it collecting  steps
        ─────────────────────────────────────────────────────────────
        a        0         –      –        –                 –      –
        b        0         –      –        –                 –      –


        Compute when success on held-out problems was first measured at a rate, over the seeds that got there.

        arm  to 50.0 %  compute  without collecting
        ───────────────────────────────────────────
        a       0 of 1        –                   –
        b       0 of 1        –                   –"#]],
    );
    check(
        &[],
        expect![[r#"
        Success without a prefix at the same compute, collection included; means over 0 seeds with Student's 95 % interval.

        arm  seeds  held out  train  compute  of it collecting  steps
        ─────────────────────────────────────────────────────────────


        Compute when success on held-out problems was first measured at a rate, over the seeds that got there.

        arm  to 50.0 %  compute  without collecting
        ───────────────────────────────────────────"#]],
    );
}

#[test]
fn markdown_can_be_pasted() {
    let mut runs = two_seeds();
    runs.iter_mut().for_each(|run| run.arm = run.arm.replace('-', "|"));
    expect![[r#"
        Success without a prefix at the same compute, collection included; means over 2 seeds with Student's 95 % interval.

        | arm | seeds | held out | train | compute | of it collecting | steps |
        |---|---:|---:|---:|---:|---:|---:|
        | prefix\|rl | 2 | 52.0 % [0.0, 100.0] | 50.0 % [50.0, 50.0] | 3.0 TFLOP | 2.0 TFLOP | 10 |
        | plain\|rl | 2 | 6.0 % [0.0, 56.8] | 27.5 % [0.0, 100.0] | 3.0 TFLOP | 0 FLOP | 10 |

        Seed by seed. The difference is paired: each seed with the same seed of the first arm.

        | arm | problems | seed 0 | seed 1 | minus prefix\|rl [95 %] |
        |---|---:|---:|---:|---:|
        | prefix\|rl | held out | 62.0 % | 42.0 % | – |
        | prefix\|rl | train | 50.0 % | 50.0 % | – |
        | plain\|rl | held out | 10.0 % | 2.0 % | -46.0 [-122.2, 30.2] |
        | plain\|rl | train | 5.0 % | 50.0 % | -22.5 [-308.4, 263.4] |

        Compute when success on held-out problems was first measured at a rate, over the seeds that got there. 45.0 % is the best that plain|rl ever was, on its mean over seeds.

        | arm | to 45.0 % | compute | without collecting | to 50.0 % | compute | without collecting |
        |---|---:|---:|---:|---:|---:|---:|
        | prefix\|rl | 1 of 2 | 1.5 TFLOP | 500 GFLOP | 1 of 2 | 1.5 TFLOP | 500 GFLOP |
        | plain\|rl | 1 of 2 | 9.0 TFLOP | 9.0 TFLOP | 1 of 2 | 9.0 TFLOP | 9.0 TFLOP |

        pass@k on held-out problems, of runs that ended at that compute; means over 2 seeds with Student's 95 % interval.

        | arm | pass@1 | pass@4 |
        |---|---:|---:|
        | prefix\|rl | 10.0 % [10.0, 10.0] | 30.0 % [30.0, 30.0] |
        | plain\|rl | 10.0 % | 30.0 % |"#]].assert_eq(&markdown(&tables(&compare(&runs, 0.5))));
}

#[test]
fn curves_are_staircases_over_seeds() {
    let success = |successes| Some(SuccessCount { successes, attempts: 100 }.into());
    let at = |step, flops, successes| Evaluation { step, flops, train: success(successes), held_out: None };
    let arm = |evaluations| Arm { name: "a".into(), seeds: 1, evaluations, ..Arm::default() };
    let merged = merge_arms(&[
        arm(vec![at(0, 1.0, 0), at(5, 3.0, 50), at(9, 6.0, 90)]),
        arm(vec![at(0, 2.0, 10), at(5, 4.0, 30), at(9, 5.0, 60)]),
    ]);
    let line = |at: &Evaluation| {
        let train = at.train.unwrap();
        format!("{} {} {}/{} {:.2} {:.2}", at.step, at.flops, train.successes, train.attempts, train.low, train.high)
    };
    let lines: Vec<String> = merged.evaluations.iter().map(line).collect();
    expect![[r#"
        2 seeds
        0 1 10/200 0.00 0.69
        0 2 10/200 0.00 0.69
        0 3 60/200 0.00 1.00
        5 4 80/200 0.00 1.00
        5 5 110/200 0.00 1.00
        9 6 150/200 0.00 1.00"#]]
    .assert_eq(&format!("{} seeds\n{}", merged.seeds, lines.join("\n")));
    let alone = arm(vec![at(0, 1.0, 0)]);
    assert_eq!(merge_arms(std::slice::from_ref(&alone)), alone);
}

#[test]
fn rows_are_means_over_seeds() {
    let row = |flops, successes, value| HeadlineRow {
        name: "a".into(),
        flops,
        flops_collection: flops / 2.0,
        steps: 3,
        train: Some(SuccessCount { successes, attempts: 100 }.into()),
        held_out: None,
        pass_at_k: vec![Estimate { k: 4, value, low: 0.0, high: 1.0 }],
    };
    let merged = merge_rows(&[row(1e12, 40, 0.5), row(3e12, 60, 0.5)]);
    let (train, pass) = (merged.train.unwrap(), merged.pass_at_k[0]);
    expect!["2e12 1e12 3 | 100/200 0.00 1.00 | 4 0.5 0.5 0.5"].assert_eq(&format!(
        "{:e} {:e} {} | {}/{} {:.2} {:.2} | {} {} {} {}",
        merged.flops,
        merged.flops_collection,
        merged.steps,
        train.successes,
        train.attempts,
        train.low,
        train.high,
        pass.k,
        pass.value,
        pass.low,
        pass.high
    ));
    assert_eq!(merge_rows(&[row(1e12, 40, 0.5)]), row(1e12, 40, 0.5));
}

//! The controller in a world whose success is known, alone and beside the others.

use expect_test::{Expect, expect};
use toehold_rollout::{ProblemId, Start};

use super::super::simulation::{Played, check_resume, run, shown};
use super::super::tests::plain_starts;
use super::super::{Material, Source};
use super::Foothold;
use super::line::{Rung, lines};
use super::world::{
    GROUP, Known, TRACE, Teaches, build, chance, foothold, index, plain_prompt, problems, row, sigmoid, trace,
};
use super::worth::{Cost, Value};

/// Steps, groups, mixed groups, mixed groups per 1,000 tokens, per cent of groups from success prefixes and from
/// failure prefixes in each quarter of the tokens, plain success of each dozen of problems at the end; means of
/// three seeds. These are the numbers of docs/methods/curriculum/foothold.md.
#[track_caller]
fn check_table(known: &[Known], teaches: Teaches, budget: u64, rows: &[(&str, &str)], expected: Expect) {
    let rows: Vec<String> = rows.iter().map(|(name, settings)| row(name, settings, known, teaches, budget)).collect();
    expected.assert_eq(&rows.join("\n"));
}

const PLAIN: (&str, &str) = ("plain", "");
const DYNAMIC: (&str, &str) = ("dynamic-sampling", "");
const SUCCESS: (&str, &str) = ("success-prefix", "");
const FAILURE: (&str, &str) = ("failure-prefix", "");
const OURS: (&str, &str) = ("foothold", "");
const MIXED: (&str, &str) = ("foothold", "value = \"mixed\"");
const LEARNT: (&str, &str) = ("foothold", "cost = \"learnt\"");
const GROUPS: (&str, &str) = ("foothold", "cost = \"groups\"");

/// Hard, medium and saturated problems together.
#[test]
fn beside_the_others_on_all_problems() {
    let rows = [PLAIN, DYNAMIC, SUCCESS, FAILURE, OURS, MIXED, LEARNT, GROUPS];
    check_table(
        &problems(),
        Teaches::Alike,
        600_000,
        &rows,
        expect![[r#"
        plain                                     47    752    303   0.50    0+0    0+0    0+0    0+0     0.009  0.803  0.986
        dynamic-sampling                          19    750    303   0.50    0+0    0+0    0+0    0+0     0.009  0.804  0.986
        success-prefix                            79   1269    176   0.29   75+0   75+0   75+0   75+0     0.009  0.685  0.984
        failure-prefix                           134   2139    817   1.35    0+100  0+100  0+100  0+100   0.007  0.488  0.998
        foothold                                 104   1659   1529   2.53   36+35  34+34  32+49  30+62    0.187  0.953  0.999
        foothold value = mixed                   117   1877   1656   2.75   36+36  34+35  32+52  30+62    0.214  0.963  1.000
        foothold cost = learnt                    77   1232   1197   1.98   29+35  31+35  33+36  32+56    0.106  0.931  0.998
        foothold cost = groups                    84   1339   1313   2.17   29+35  31+35  34+39  32+59    0.131  0.940  0.999"#]],
    );
    let rows = [PLAIN, SUCCESS, FAILURE, OURS, MIXED, LEARNT, GROUPS];
    check_table(
        &problems(),
        Teaches::WhatIsLeft,
        600_000,
        &rows,
        expect![[r#"
        plain                                     47    752    303   0.50    0+0    0+0    0+0    0+0     0.009  0.803  0.986
        success-prefix                            79   1269    176   0.29   75+0   75+0   75+0   75+0     0.008  0.662  0.984
        failure-prefix                           112   1797   1427   2.36    0+100  0+100  0+100  0+100   0.007  0.488  0.997
        foothold                                 110   1760   1668   2.77   36+35  34+33  33+49  32+63    0.019  0.938  0.988
        foothold value = mixed                   125   1995   1824   3.03   36+35  34+34  33+52  32+64    0.015  0.933  0.988
        foothold cost = learnt                    78   1253   1236   2.05   29+35  31+35  32+38  34+56    0.019  0.924  0.994
        foothold cost = groups                    82   1312   1291   2.15   29+35  31+35  33+39  34+58    0.018  0.927  0.994"#]],
    );
}

/// The problems that success prefixes, and those that failure prefixes are made for.
#[test]
fn beside_the_others_at_their_home() {
    let rows = [PLAIN, DYNAMIC, SUCCESS, OURS, GROUPS];
    check_table(
        &problems()[..12],
        Teaches::Alike,
        200_000,
        &rows,
        expect![[r#"
        plain                                     16    256     25   0.12    0+0    0+0    0+0    0+0     0.009
        dynamic-sampling                           3    316     32   0.12    0+0    0+0    0+0    0+0     0.010
        success-prefix                            27    427    314   1.54   75+0   75+0   75+0   75+0     0.062
        foothold                                  47    747    611   3.02   100+0   100+0   100+0   100+0     0.314
        foothold cost = groups                    37    592    582   2.84   100+0   100+0   100+0   100+0     0.284"#]],
    );
    check_table(
        &problems()[..12],
        Teaches::WhatIsLeft,
        200_000,
        &rows,
        expect![[r#"
        plain                                     16    256     25   0.12    0+0    0+0    0+0    0+0     0.009
        dynamic-sampling                           3    316     32   0.12    0+0    0+0    0+0    0+0     0.010
        success-prefix                            27    427    294   1.44   75+0   75+0   75+0   75+0     0.018
        foothold                                  59    939    904   4.47   100+0   100+0   100+0   100+0     0.028
        foothold cost = groups                    46    741    736   3.61   100+0   100+0   100+0   100+0     0.045"#]],
    );
    let rows = [PLAIN, DYNAMIC, FAILURE, OURS, GROUPS];
    check_table(
        &problems()[24..36],
        Teaches::Alike,
        200_000,
        &rows,
        expect![[r#"
        plain                                     16    256     63   0.30    0+0    0+0    0+0    0+0     0.987
        dynamic-sampling                           5    308     73   0.30    0+0    0+0    0+0    0+0     0.988
        failure-prefix                            37    592    498   2.47    0+100  0+100  0+100  0+100   0.997
        foothold                                 121   1152    823   4.11    0+100  0+100  0+100  0+100   1.000
        foothold cost = groups                    59    853    719   3.59    0+100  0+100  0+100  0+100   1.000"#]],
    );
    check_table(
        &problems()[24..36],
        Teaches::WhatIsLeft,
        200_000,
        &rows,
        expect![[r#"
        plain                                     16    256     63   0.30    0+0    0+0    0+0    0+0     0.987
        dynamic-sampling                           5    308     73   0.30    0+0    0+0    0+0    0+0     0.988
        failure-prefix                            33    523    494   2.44    0+100  0+100  0+100  0+100   0.994
        foothold                                  67   1077   1066   5.29    0+100  0+100  0+100  0+100   0.993
        foothold cost = groups                    37    592    589   2.91    0+100  0+100  0+100  0+100   0.995"#]],
    );
}

/// Five problems: hard, medium, saturated, without any trace of success, never failing.
#[test]
fn every_start_is_given_with_its_reason() {
    let all = problems();
    let some = [all[3], all[15], all[27], all[36], all[38]];
    let mut curriculum = build(&foothold(), &some);
    let steps = run(curriculum.as_mut(), 0..8, 4, |start, _| chance(some[index(start)], 0.0, start));
    let line = |one: &Played| format!("{} {}", one.selection.start.problem.as_str(), one.selection.why);
    let shown_steps: Vec<String> = steps.iter().map(|step| shown(step)).collect();
    expect![[r#"
        p2:44=1 p0:44=11 p1:0=9 p2:39=6
        p1:0=4 p0:44=15 p2:39=3 p2:44=4
        p1:0=9 p2:44=2 p0:44=11 p2:39=1
        p1:0=8 p0:44=13 p2:44=2 p2:39=5
        p1:0=8 p0:44=12 p2:44=2 p2:39=3
        p1:0=8 p0:44=8 p2:44=1 p2:39=2
        p1:0=9 p0:44=11 p2:44=2 p0:39=5
        p1:0=6 p0:44=9 p2:44=2 p0:39=6"#]]
    .assert_eq(&shown_steps.join("\n"));
    let last: Vec<String> = steps[7].iter().map(line).collect();
    expect![[r#"
        p1 plain: success 0.50 [0.44, 0.56], worth 0.250 for 170 tokens
        p0 44 of 50 tokens of a success: success 0.70 [0.56, 0.77], worth 0.206 for 197 tokens
        p2 44 of 50 tokens of a failure: success 0.14 [0.06, 0.23], worth 0.117 for 170 tokens
        p0 39 of 50 tokens of a success: success 0.40 [0.23, 0.68], worth 0.227 for 311 tokens"#]]
    .assert_eq(&last.join("\n"));
}

/// Without learning, in steps 0 to 5, 5 to 15 and 15 to 60: the groups of hard, medium and saturated problems,
/// and of those that nothing can be learnt from, how many were mixed, and the mean distance of their true success
/// from 0.5; and the rollouts of all.
#[track_caller]
fn check_found(settings: &Foothold, expected: Expect) {
    let all = problems();
    let mut curriculum = build(settings, &all);
    let mut lines = Vec::new();
    for (from, to) in [(0, 5), (5, 15), (15, 60)] {
        let steps = run(curriculum.as_mut(), from..to, 16, |start, _| chance(all[index(start)], 0.0, start));
        let played: Vec<&Played> = steps.iter().flatten().collect();
        let band = |band: usize| {
            let of: Vec<&&Played> = played.iter().filter(|one| index(&one.selection.start) / 12 == band).collect();
            let mixed = of.iter().filter(|one| one.outcome.is_mixed()).count();
            let away = |one: &&&Played| {
                let start = &one.selection.start;
                (chance(all[index(start)], 0.0, start) - 0.5).abs()
            };
            format!("{mixed}/{} {:.2}", of.len(), 0.0 + of.iter().map(away).sum::<f64>() / of.len().max(1) as f64)
        };
        let bands: Vec<String> = (0..4).map(band).collect();
        lines.push(format!("{}  {} rollouts", bands.join("  "), played.len() as u64 * GROUP));
    }
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn it_finds_what_teaches_and_drops_what_does_not() {
    check_found(
        &foothold(),
        expect![[r#"
        24/29 0.25  24/24 0.07  22/27 0.31  0/0 0.00  1280 rollouts
        56/56 0.19  55/55 0.07  47/49 0.30  0/0 0.00  2560 rollouts
        241/252 0.19  245/245 0.07  210/219 0.31  0/4 0.50  11520 rollouts"#]],
    );
    check_found(
        &Foothold { cost: Cost::Groups, ..foothold() },
        expect![[r#"
        24/25 0.21  26/26 0.08  29/29 0.19  0/0 0.00  1280 rollouts
        50/50 0.10  55/55 0.07  55/55 0.07  0/0 0.00  2560 rollouts
        242/242 0.08  241/241 0.07  235/237 0.06  0/0 0.00  11520 rollouts"#]],
    );
    // Without a count that fades, what was dropped stays dropped.
    check_found(
        &Foothold { keep: 1.0, ..foothold() },
        expect![[r#"
        24/29 0.25  24/24 0.07  22/27 0.31  0/0 0.00  1280 rollouts
        56/56 0.19  55/55 0.07  47/49 0.30  0/0 0.00  2560 rollouts
        243/253 0.19  251/251 0.07  210/216 0.29  0/0 0.00  11520 rollouts"#]],
    );
}

/// Two problems without traces, one never solved and one half of the time: the steps at which the first is given.
#[test]
fn what_was_dropped_is_looked_at_when_its_counts_have_faded() {
    let given = |keep: f64| {
        let material = Material { plain: plain_starts(2), ..Material::default() };
        let mut curriculum = Foothold { keep, ..foothold() }.build(material, 0).unwrap();
        let steps = run(curriculum.as_mut(), 0..100, 2, |start, _| 0.5 * f64::from(start.prompt[0]));
        let is_given = |step: &Vec<Played>| step.iter().any(|one| index(&one.selection.start) == 0);
        let steps: Vec<String> = (0..100).filter(|&at| is_given(&steps[at])).map(|at| at.to_string()).collect();
        steps.join(" ")
    };
    expect![[r#"
        0 6 12 19 26 33 40 47 53 60 67 74 81 88 95
        0 23 51 79
        0"#]]
    .assert_eq(&[given(0.8), given(0.95), given(1.0)].join("\n"));
}

/// The lengths of the failure prefixes, the plain start, and the success prefixes of a problem.
#[track_caller]
fn check_line(sources: Vec<Source>, expected: Expect) {
    let plain = vec![Start::plain(ProblemId::from("p0".to_owned()), plain_prompt(0))];
    let lines = lines(&foothold(), Material { plain, sources, ..Material::default() }, 0);
    let rung = |rung: &Rung| format!("{}{}", &rung.part.as_str()[..1], rung.start.prefix.len());
    let rungs: Vec<String> = lines[0].rungs.iter().map(rung).collect();
    let count = lines[0].collected;
    expected.assert_eq(&format!("{} {} {}/{}", rungs.join(" "), lines[0].plain, count.successes, count.attempts));
}

#[test]
fn a_line_goes_from_the_longest_failure_to_the_longest_success() {
    let (success, failure) = (trace(0, 1, true), trace(0, 2, false));
    check_line(
        vec![success.clone(), failure.clone()],
        expect!["f44 f39 f34 f29 f25 f20 f15 f10 f5 p0 s5 s10 s15 s20 s25 s29 s34 s39 s44 9 1/2"],
    );
    check_line(vec![failure.clone()], expect!["f44 f39 f34 f29 f25 f20 f15 f10 f5 p0 9 0/1"]);
    check_line(vec![], expect!["p0 0 0/0"]);
    // A failure that ran out of tokens counts, but is not cut.
    check_line(
        vec![success.clone(), Source { limit: 0, ..failure.clone() }],
        expect!["p0 s5 s10 s15 s20 s25 s29 s34 s39 s44 0 1/2"],
    );
    // It goes wrong after 26 tokens: until there it is the success.
    let mut late = success.clone();
    (late.is_correct, late.row) = (false, Some(3));
    late.tokens[26] += 1;
    check_line(vec![success, late], expect!["f44 f39 f34 f29 p0 s5 s10 s15 s20 s25 s29 s34 s39 s44 4 1/2"]);
}

/// Hard problems alone, whose skill rises from step to step: the share of their trace that is given, in tenths of
/// the run.
#[test]
fn prefixes_are_withdrawn_as_plain_success_rises() {
    let hard = &problems()[..12];
    let mut curriculum = build(&foothold(), hard);
    let skill = |step: u64| 0.06 * step as f64;
    let steps = run(curriculum.as_mut(), 0..100, 6, |start, step| chance(hard[index(start)], skill(step), start));
    let share = |steps: &[Vec<Played>]| {
        let played: Vec<&Played> = steps.iter().flatten().collect();
        let given: usize = played.iter().map(|one| one.selection.start.prefix.len()).sum();
        format!("{:.2}", given as f64 / (TRACE * played.len()) as f64)
    };
    let shares: Vec<String> = steps.chunks(10).map(share).collect();
    let plain: Vec<String> = (0..10).map(|at| format!("{:.2}", sigmoid(hard[6].plain + skill(10 * at + 5)))).collect();
    expect![[r#"
        given 0.83 0.79 0.76 0.74 0.70 0.60 0.18 0.00 0.00 0.00
        plain 0.01 0.02 0.03 0.06 0.10 0.17 0.27 0.40 0.55 0.69"#]]
    .assert_eq(&format!("given {}\nplain {}", shares.join(" "), plain.join(" ")));
}

#[test]
fn a_state_goes_on_exactly() {
    let all = problems();
    let settings = Foothold { cost: Cost::Groups, value: Value::Mixed, ..foothold() };
    check_resume(
        || build(&settings, &all),
        build(&settings, &all[1..]),
        12,
        5,
        |start, step| chance(all[index(start)], 0.1 * step as f64, start),
    );
}

#[test]
fn plain_problems_alone_are_no_error() {
    let mut curriculum = foothold().build(Material { plain: plain_starts(5), ..Material::default() }, 0).unwrap();
    assert_eq!(curriculum.next(16).len(), 5);
    assert!(foothold().build(Material::default(), 0).is_err());
}

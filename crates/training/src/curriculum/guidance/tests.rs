//! What is given of a solution, what is refused, and what the curricula that give it cost beside each other.

use expect_test::{Expect, expect};

use super::super::cycle::is_among;
use super::super::simulation::GROUP;
use super::super::{CurriculumKind, Fate, Material, Source};
use super::Guide;
use super::world::{learn, material};
use crate::recipe::Method as _;

fn guide(length: usize, limit: usize) -> Guide {
    let mut material = material(1);
    let solution = material.solutions[0].clone();
    material.solutions[0] = Source { tokens: (0..length as u32).collect(), limit, ..solution };
    Guide::new(material).unwrap()
}

#[track_caller]
fn check(length: usize, limit: usize, shares: &[f64], expected: Expect) {
    let guide = guide(length, limit);
    expected.assert_eq(&format!("{:?} of {}", guide.ladder(0, shares), guide.longest(0)));
}

#[test]
fn shares_are_of_what_comes_before_the_answer() {
    let quarters = [0.25, 0.5, 0.75];
    check(110, 100, &quarters, expect!["[25, 50, 75] of 100"]);
    check(110, 45, &quarters, expect!["[11, 23, 34] of 45"]);
    // Fewer places than shares: each once.
    check(110, 2, &quarters, expect!["[1, 2] of 2"]);
    // Nothing is given of the share 0, and never all of the solution.
    check(10, 10, &[1.0, 0.0, 0.5], expect!["[5, 9] of 9"]);
}

#[test]
fn what_is_given_is_the_beginning_of_the_solution() {
    let guide = guide(110, 100);
    let selection = guide.select(0, 3, "why");
    assert_eq!((selection.start.prefix.as_slice(), selection.start.prompt.as_slice()), (&[0, 1, 2][..], &[0][..]));
    expect!["3 of 110 tokens of the solution, why"].assert_eq(&selection.why);
    let plain = guide.select(0, 0, "why");
    assert!(plain.start.is_plain());
    expect!["plain, why"].assert_eq(&plain.why);
}

#[test]
fn without_any_solution_the_run_does_not_begin() {
    let eight = material(8);
    let guide = Guide::new(eight.clone()).unwrap();
    assert_eq!((guide.without_solution, guide.uncuttable), (1, 1));
    let mut uncuttable = eight.clone();
    uncuttable.solutions.retain(|source| source.prompt[0] == 7);
    let none = Material { solutions: Vec::new(), ..eight };
    let refused = [uncuttable, none, Material::default()].map(|material| {
        let error = Guide::new(material).err().unwrap().to_string();
        error.lines().next().unwrap().trim_start_matches("no guidance can be given: ").to_owned()
    });
    expect![[r#"
        of 8 problems, 7 have no worked solution, 1 have one that answers at once
        of 8 problems, 8 have no worked solution, 0 have one that answers at once
        of 0 problems, 0 have no worked solution, 0 have one that answers at once"#]]
    .assert_eq(&refused.join("\n"));
}

#[test]
fn a_share_is_kept_at_every_number() {
    let among = |share: f64| (0..12).map(|at| if is_among(share, at) { 'x' } else { '-' }).collect::<String>();
    expect!["-x-x-x-x-x-x"].assert_eq(&among(0.5));
    expect!["-----x-----x"].assert_eq(&among(1.0 / 6.0));
    expect!["------------"].assert_eq(&among(0.0));
    expect!["xxxxxxxxxxxx"].assert_eq(&among(1.0));
}

/// 60 steps of the eight problems, which all but two have learnt by the end, with five seeds: the groups
/// sampled, the share of them that was given something, the mixed ones that were learnt from, and the
/// rollouts that each of these cost, the least and the most. The table in docs/methods/curriculum/guidance.md is
/// this one.
#[test]
fn what_a_mixed_group_costs() {
    let line = |text: &str| {
        let mut table: toml::Table = text.parse().unwrap();
        let kind = table.remove("kind").unwrap();
        let kind = CurriculumKind::read(kind.as_str().unwrap(), table).unwrap();
        let (mut groups, mut given, mut mixed, mut costs) = (0, 0, 0, Vec::new());
        for seed in 0..5 {
            let mut curriculum = kind.build(material(8), seed).unwrap();
            let played: Vec<_> = learn(curriculum.as_mut(), 0..60, 8, 0.02).into_iter().flatten().collect();
            let useful = played.iter().filter(|one| one.fate == Fate::Learnt && one.outcome.is_mixed()).count() as u64;
            groups += played.len() as u64;
            given += played.iter().filter(|one| !one.selection.start.is_plain()).count() as u64;
            mixed += useful;
            costs.push(GROUP * played.len() as u64 / useful);
        }
        let (least, most) = (costs.iter().min().unwrap(), costs.iter().max().unwrap());
        let name = text.replace("kind = ", "").replace('"', "").replace('\n', ", ");
        format!("{name:52} {:4} {:3}% {:4} {least:4} to {most}", groups / 5, 100 * given / groups, mixed / 5)
    };
    let lines = [
        r#"kind = "plain""#,
        "kind = \"ghpo\"\nstart_step = 0",
        "kind = \"questa\"\nstage_steps = 30",
        "kind = \"pope\"\nlongest = 1.0",
        r#"kind = "bread""#,
        r#"kind = "adaback""#,
        "kind = \"adaprefix\"\nvisits = 2",
        "kind = \"g2rpo-a\"\nfirst = 60",
        r#"kind = "reverse-curriculum""#,
        "kind = \"reverse-curriculum\"\norder = \"staged\"\nstage_steps = 12",
    ];
    expect![[r#"
        plain                                                 480   0%   76   96 to 106
        ghpo, start_step = 0                                  763  37%  142   83 to 88
        questa, stage_steps = 30                              480  75%   57  128 to 142
        pope, longest = 1.0                                   480  39%   61  120 to 132
        bread                                                 827  41%  195   66 to 69
        adaback                                               480  32%  109   61 to 78
        adaprefix, visits = 2                                 480  37%  133   54 to 59
        g2rpo-a, first = 60                                   480  13%   76   96 to 109
        reverse-curriculum                                    480  75%   52  134 to 163
        reverse-curriculum, order = staged, stage_steps = 12  480  60%   33  213 to 256"#]]
    .assert_eq(&lines.map(line).join("\n"));
}

#[track_caller]
fn check_settings(lines: &[&str], expected: Expect) {
    let refused = |line: &&str| {
        let mut table: toml::Table = line.replace("; ", "\n").parse().unwrap();
        let kind = table.remove("kind").unwrap();
        CurriculumKind::read(kind.as_str().unwrap(), table).unwrap_err().to_string()
    };
    expected.assert_eq(&lines.iter().map(refused).collect::<Vec<_>>().join("\n"));
}

#[test]
fn settings_without_sense_are_refused() {
    let lines = [
        "kind = 'ghpo'; shares = []",
        "kind = 'ghpo'; shares = [0.5, 1.5]",
        "kind = 'questa'; stage_steps = 0",
        "kind = 'questa'; success = 0.0",
        "kind = 'questa'; low = 0.6; high = 0.5",
        "kind = 'questa'; high = 1.5",
        "kind = 'pope'; longest = 0.0",
        "kind = 'pope'; checkpoints = 0",
        "kind = 'pope'; rollouts = 0",
        "kind = 'pope'; plain_share = -0.5",
        "kind = 'bread'; parts = 1",
        "kind = 'bread'; from = 0.0",
        "kind = 'bread'; to = 0.2",
        "kind = 'adaback'; threshold = 0.0",
        "kind = 'adaback'; plain_chance = 2.0",
        "kind = 'adaback'; rate = 0.0",
        "kind = 'adaprefix'; target = 1.0",
        "kind = 'adaprefix'; visits = 0",
        "kind = 'adaprefix'; gain = -1.0",
        "kind = 'adaprefix'; first = 1.5",
        "kind = 'g2rpo-a'; guided_share = 0.0",
        "kind = 'g2rpo-a'; first = 100; longest = 50",
        "kind = 'g2rpo-a'; longest = 0",
        "kind = 'reverse-curriculum'; stages = 1",
        "kind = 'reverse-curriculum'; stage_steps = 0",
        "kind = 'reverse-curriculum'; order = 'random'",
    ];
    check_settings(
        &lines,
        expect![[r#"
        [curriculum] shares is [], expected at least one share
        [curriculum] shares is 1.5, expected in [0, 1] each
        [curriculum] stage_steps is 0, expected at least 1
        [curriculum] success is 0, expected in (0, 1]
        [curriculum] low is 0.6, expected in [0, high]
        [curriculum] high is 1.5, expected in [low, 1]
        [curriculum] longest is 0, expected in (0, 1]
        [curriculum] checkpoints is 0, expected at least 1
        [curriculum] rollouts is 0, expected at least 1
        [curriculum] plain_share is -0.5, expected in [0, 1]
        [curriculum] parts is 1, expected at least 2
        [curriculum] from is 0, expected in (0, to]
        [curriculum] from is 0.25, expected in (0, to]
        [curriculum] threshold is 0, expected in (0, 1]
        [curriculum] plain_chance is 2, expected in [0, 1]
        [curriculum] rate is 0, expected in (0, 1]
        [curriculum] target is 1, expected in (0, 1)
        [curriculum] visits is 0, expected at least 1
        [curriculum] gain is -1, expected above 0
        [curriculum] first is 1.5, expected in [0, 1]
        [curriculum] guided_share is 0, expected in (0, 1]
        [curriculum] first is 100, expected in [1, longest]
        [curriculum] longest is 0, expected at least 1
        [curriculum] stages is 1, expected at least 2
        [curriculum] stage_steps is 0, expected at least 1
        [curriculum] order: found the string "random": unknown variant `random`, expected `mixed` or `staged`"#]],
    );
}

//! A world whose success is known, and in which mixed groups teach.

use toehold_rollout::{ProblemId, Start, SuccessCount};

use super::super::{Curriculum, CurriculumKind, GroupOutcome, Material, Source};
use super::{Foothold, FootholdWritten};
use crate::random;
use crate::recipe::Method;

pub(super) const GROUP: u64 = 16;

/// Tokens of every trace, of which a success gives the answer at the end, and of every prompt.
pub(super) const TRACE: usize = 50;
pub(super) const PROMPT: usize = 10;

/// The log-odds of a plain success, and how much a whole success or failure adds to or takes from it.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) plain: f64,
    pub(super) rise: f64,
    pub(super) fall: f64,
}

pub(super) fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// Twelve hard problems, twelve medium ones, twelve saturated ones, two that nothing helps with and two that
/// nothing spoils; curves of several heights, none of them straight.
pub(super) fn problems() -> Vec<Known> {
    let of =
        |plain: f64, at: u32| Known { plain: plain + 0.1 * f64::from(at), rise: 6.0 + 0.3 * f64::from(at), fall: 6.0 };
    let hard = (0..12).map(|at| of(-5.5, at));
    let medium = (0..12).map(|at| of(-0.6, at));
    let saturated = (0..12).map(|at| of(3.4, at));
    let lost = [Known { plain: -30.0, rise: 0.0, fall: 0.0 }; 2];
    let sure = [Known { plain: 30.0, rise: 0.0, fall: 0.0 }; 2];
    hard.chain(medium).chain(saturated).chain(lost).chain(sure).collect()
}

/// The chance of success from a start at this skill beyond the beginning's. A success rises late, a
/// failure falls early.
pub(super) fn chance(known: Known, skill: f64, start: &Start) -> f64 {
    let share = start.prefix.len() as f64 / TRACE as f64;
    let given = match start.prefix.first() {
        None => 0.0,
        Some(token) if token % 2 == 0 => known.rise * share.powf(1.5),
        Some(_) => -known.fall * share.powf(0.7),
    };
    sigmoid(known.plain + skill + given)
}

/// A trace of problem `at` that begins with an even token when it is correct.
pub(super) fn trace(at: usize, row: u32, is_correct: bool) -> Source {
    let first = 1_000 * row + u32::from(!is_correct);
    Source {
        problem: ProblemId::from(format!("p{at}")),
        prompt: plain_prompt(at),
        tokens: (0..TRACE as u32).map(|token| first + 2 * token).collect(),
        row: Some(i64::from(row)),
        is_correct,
        limit: TRACE - 1,
        inside: Vec::new(),
    }
}

pub(super) fn plain_prompt(at: usize) -> Vec<u32> {
    let mut prompt = vec![0; PROMPT];
    prompt[0] = at as u32;
    prompt
}

/// What was collected: 32 attempts at each problem, and more until both a success and a failure are seen,
/// at most 500.
pub(super) fn material(problems: &[Known], seed: u64) -> Material {
    let mut sources = Vec::new();
    for (at, known) in problems.iter().enumerate() {
        let mut rng = random::stream(seed, "collected", &[at as u64]);
        let mut count = SuccessCount::default();
        while count.attempts < 32 || (count.attempts < 500 && [0, count.attempts].contains(&count.successes)) {
            let is_correct = random::unit(&mut rng) < sigmoid(known.plain);
            count.add(is_correct);
            sources.push(trace(at, 1_000 * at as u32 + count.attempts as u32, is_correct));
        }
    }
    let plain = |at: usize| Start::plain(ProblemId::from(format!("p{at}")), plain_prompt(at));
    Material { plain: (0..problems.len()).map(plain).collect(), sources, ..Material::default() }
}

pub(super) fn foothold() -> Foothold {
    FootholdWritten::default().resolve("curriculum").unwrap()
}

pub(super) fn build(settings: &Foothold, problems: &[Known]) -> Box<dyn Curriculum> {
    settings.build(material(problems, 1), 1).unwrap()
}

pub(super) fn index(start: &Start) -> usize {
    start.prompt[0] as usize
}

/// How much a mixed group teaches.
#[derive(Clone, Copy)]
pub(super) enum Teaches {
    /// The same from everywhere.
    Alike,
    /// In proportion to what was left to do.
    WhatIsLeft,
}

/// What came of a run that spent a budget of tokens.
#[derive(Default)]
pub(super) struct Spent {
    steps: u64,
    tokens: u64,
    groups: u64,
    mixed: u64,
    /// Of each quarter of the budget, groups from a success prefix, from a failure prefix, and all.
    quarters: [[u64; 3]; 4],
    /// Mean plain success of each dozen of problems at the end.
    success: Vec<f64>,
}

/// Runs a curriculum in a world in which each mixed group of a problem raises its log-odds by 0.08 at most,
/// until the tokens are spent: prompt and prefix once per group, and what is left of a trace per rollout.
pub(super) fn spend(
    mut curriculum: Box<dyn Curriculum>,
    known: &[Known],
    teaches: Teaches,
    budget: u64,
    seed: u64,
) -> Spent {
    let mut skill = vec![0.0; known.len()];
    let mut spent = Spent::default();
    while spent.tokens < budget {
        spent.steps += 1;
        let mut lessons = Vec::new();
        let mut selections = curriculum.next(16);
        while !selections.is_empty() {
            for selection in std::mem::take(&mut selections) {
                let start = &selection.start;
                let mut rng = random::stream(seed, "world", &[spent.groups]);
                let p = chance(known[index(start)], skill[index(start)], start);
                let mut count = SuccessCount::default();
                (0..GROUP).for_each(|_| count.add(random::unit(&mut rng) < p));
                let left = (TRACE - start.prefix.len()) as u64;
                let outcome = GroupOutcome { count, completion_tokens: GROUP * left };
                curriculum.observe(&selection, outcome);
                let quarter = &mut spent.quarters[(4 * spent.tokens / budget).min(3) as usize];
                if let Some(token) = start.prefix.first() {
                    quarter[(token % 2) as usize] += 1;
                }
                quarter[2] += 1;
                spent.groups += 1;
                spent.mixed += u64::from(outcome.is_mixed());
                spent.tokens += (PROMPT + start.prefix.len()) as u64 + outcome.completion_tokens;
                if outcome.is_mixed() {
                    let share = match teaches {
                        Teaches::Alike => 1.0,
                        Teaches::WhatIsLeft => left as f64 / TRACE as f64,
                    };
                    lessons.push((index(start), 0.08 * share));
                }
            }
            selections = curriculum.again();
        }
        lessons.into_iter().for_each(|(problem, lesson)| skill[problem] += lesson);
    }
    let ends: Vec<f64> = known.iter().zip(&skill).map(|(known, skill)| sigmoid(known.plain + skill)).collect();
    spent.success = ends.chunks_exact(12).map(|dozen| dozen.iter().sum::<f64>() / 12.0).collect();
    spent
}

/// The means of three seeds.
pub(super) fn row(name: &str, settings: &str, known: &[Known], teaches: Teaches, budget: u64) -> String {
    let table: toml::Table = settings.parse().unwrap();
    let kind = CurriculumKind::read(name, table).unwrap();
    let runs: Vec<Spent> = (0..3)
        .map(|seed| spend(kind.build(material(known, seed), seed).unwrap(), known, teaches, budget, seed))
        .collect();
    let mean = |of: &dyn Fn(&Spent) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
    let share =
        |at: usize, kind: usize| mean(&|run| 100.0 * run.quarters[at][kind] as f64 / run.quarters[at][2].max(1) as f64);
    let quarters: Vec<String> = (0..4).map(|at| format!("{:2.0}+{:<3.0}", share(at, 0), share(at, 1))).collect();
    let success: Vec<String> =
        (0..runs[0].success.len()).map(|dozen| format!("{:5.3}", mean(&|run| run.success[dozen]))).collect();
    format!(
        "{:38} {:5.0} {:6.0} {:6.0} {:6.2}   {}   {}",
        format!("{name} {}", settings.replace('\n', " ").replace('"', "")),
        mean(&|run| run.steps as f64),
        mean(&|run| run.groups as f64),
        mean(&|run| run.mixed as f64),
        mean(&|run| 1000.0 * run.mixed as f64 / run.tokens as f64),
        quarters.join(" "),
        success.join("  "),
    )
}

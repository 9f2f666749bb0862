//! A world in which a part of the solution helps as it is known to: eight problems, each with a place on
//! its solution from which half of the rollouts succeed.

use toehold_rollout::Start;

use super::super::simulation::{Played, run, shown};
use super::super::tests::{plain_starts, sources};
use super::super::{Curriculum, Material, Source};

/// The share of the solution from which a problem is solved half of the time, before anything is learnt.
/// Problem 0 needs none, problem 5 is beyond all help; problem 6 has no solution and succeeds half of
/// the time, problem 7 has one that answers at once and always fails.
pub(in super::super) const REACH: [f64; 8] = [-1.0, 0.2, 0.4, 0.6, 0.8, 3.0, 0.0, 3.0];

/// σ(20 (share given − reach + rise)): 2 % at 0.2 under the reach, 12 % at 0.1, 88 % at 0.1 over it.
pub(in super::super) fn chance(start: &Start, rise: f64) -> f64 {
    let share = start.prefix.len() as f64 / 100.0;
    1.0 / (1.0 + (-20.0 * (share - REACH[start.prompt[0] as usize] + rise)).exp())
}

/// The first `problems` of the eight, with solutions of 100 tokens before the answer and 10 of it.
pub(in super::super) fn material(problems: u32) -> Material {
    let solution = |source: Source| Source { row: None, limit: if source.prompt[0] == 7 { 0 } else { 100 }, ..source };
    let solutions = sources(problems, 110, 100).into_iter().filter(|source| source.prompt[0] != 6).map(solution);
    Material { plain: plain_starts(problems), sources: Vec::new(), solutions: solutions.collect(), cues: Vec::new() }
}

/// Steps `from .. to` of so many groups, in which success rises by `rise` a step.
pub(in super::super) fn learn(
    curriculum: &mut dyn Curriculum,
    steps: std::ops::Range<u64>,
    starts: usize,
    rise: f64,
) -> Vec<Vec<Played>> {
    run(curriculum, steps, starts, |start, at| chance(start, rise * at as f64))
}

/// The groups of a step, eight a line.
pub(in super::super) fn rows(played: &[Played]) -> String {
    played.chunks(8).map(shown).collect::<Vec<_>>().join("\n")
}

/// The metrics, one a line.
pub(in super::super) fn metrics(curriculum: &dyn Curriculum) -> String {
    let line = |(name, value): (String, f64)| format!("{} {value:.3}", name.trim_start_matches("curriculum/"));
    curriculum.metrics().into_iter().map(line).collect::<Vec<_>>().join("\n")
}

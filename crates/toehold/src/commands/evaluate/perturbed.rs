//! Success on the training problems with other numbers: computed, or remembered?

use anyhow::Result;
use serde::{Deserialize, Serialize};
use toehold_rollout::synthetic::Perturbation;
use toehold_rollout::{Problem, SuccessCount, TokenId};
use toehold_training::evaluation::sample_each;

use super::measure::{Both, Workplace};
use super::{count_plan, first, rate};
use crate::commands::problems::family;
use crate::prepare::plain_starts;
use crate::terminal;

/// Seed of the changes: the problems are those of `toehold problems --perturb WAY`.
const SEED: u64 = 0;

/// What was found, set by set, the originals first.
pub(super) type PerturbedSets = Vec<PerturbedSet>;

/// One set of problems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PerturbedSet {
    /// What was done to the problems; none for the originals.
    pub(super) way: Option<Perturbation>,
    /// How many there are: not every problem has a variant.
    pub(super) problems: usize,
    /// Right answers to what is stated; none where nothing is asked that has an answer.
    pub(super) right: Option<Both<SuccessCount>>,
    /// Answers that are right for the original and not for what is stated; none for the originals.
    pub(super) remembered: Option<Both<SuccessCount>>,
}

pub(super) fn measure(place: &mut Workplace<'_>) -> Result<PerturbedSets> {
    let prepared = place.prepared;
    let family = family(&prepared.plan)?;
    let originals = first(prepared.problems.problems.clone(), prepared.plan.evaluate.train_problems);
    let mut sets = vec![counted(place, None, &originals, &originals)?];
    for way in Perturbation::ALL {
        let problems = family.perturbed(&originals, way, SEED)?;
        sets.push(counted(place, Some(way), &problems, &originals)?);
    }
    Ok(sets)
}

fn counted(
    place: &mut Workplace<'_>,
    way: Option<Perturbation>,
    problems: &[Problem],
    originals: &[Problem],
) -> Result<PerturbedSet> {
    place.tick(way.map_or("original", Perturbation::as_str))?;
    let prepared = place.prepared;
    let judge = prepared.judge(problems);
    let starts = plain_starts(&prepared.prompts, &prepared.tokenizer, problems)?;
    let plan = count_plan(prepared, prepared.plan.evaluate.samples);
    let references: Vec<Option<&Problem>> = problems.iter().map(|problem| original(problem, way, originals)).collect();
    let (mut right, mut remembered) = (Vec::new(), Vec::new());
    for (_, policy) in place.policies.each() {
        let (mut is_right, mut is_remembered) = (SuccessCount::default(), SuccessCount::default());
        sample_each(policy, &judge, &starts, &plan, &mut |at, _, completion, verdict| {
            // The reference of what lacks a quantity is the original's.
            let states_answer = way != Some(Perturbation::Removed);
            let correct = verdict.outcome.is_correct();
            is_right.add(correct);
            let of_original = |tokens: &[TokenId]| {
                let text = prepared.tokenizer.decode(tokens);
                references[at].is_some_and(|one| one.verifier.verify(&one.answer, &text).outcome.is_correct())
            };
            is_remembered.add(of_original(&completion.tokens) && !(states_answer && correct));
        })?;
        right.push(is_right);
        remembered.push(is_remembered);
    }
    Ok(PerturbedSet {
        way,
        problems: problems.len(),
        right: Both::of(right).filter(|_| way != Some(Perturbation::Removed)),
        remembered: Both::of(remembered).filter(|_| way.is_some()),
    })
}

/// The problem that this one was made of.
fn original<'a>(problem: &Problem, way: Option<Perturbation>, originals: &'a [Problem]) -> Option<&'a Problem> {
    let end = format!("-{}", way?.as_str());
    let id = problem.id.as_str().strip_suffix(&end)?;
    originals.iter().find(|one| one.id.as_str() == id)
}

pub(super) fn table(sets: &PerturbedSets) -> String {
    let cells = |both: &Option<Both<SuccessCount>>| match both {
        Some(both) => [rate(both.before), rate(both.after)],
        None => ["–".to_owned(), "–".to_owned()],
    };
    let row = |set: &PerturbedSet| {
        let name = set.way.map_or("original", Perturbation::as_str);
        let mut row = vec![name.to_owned(), terminal::count(set.problems as u64)];
        row.extend(cells(&set.right));
        row.extend(cells(&set.remembered));
        row
    };
    let headers =
        ["numbers", "problems", "right before [95 %]", "right after [95 %]", "remembered before", "remembered after"];
    terminal::table(&headers, &sets.iter().map(row).collect::<Vec<_>>())
}

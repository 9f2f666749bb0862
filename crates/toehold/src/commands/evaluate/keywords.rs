//! Which strategies the rollouts of training speak of, from its first steps to its last.
//!
//! Nothing is sampled: the store has every rollout of training, with the policy that wrote it. The steps are
//! taken in as many stretches as there are, at most [`STRETCHES`], after what the base policy wrote in the
//! collection.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use toehold_rollout::store::{Stage, StartFilter, StoredTrace, TraceFilter};
use toehold_rollout::synthetic::Family;
use toehold_rollout::{PolicyVersion, Sampler as _, StartId};
use toehold_training::evaluation::keywords::{Mentions, Spoken, Strategy, StrategyCount, count_keywords};
use toehold_training::recipe;

use super::measure::Workplace;
use crate::prepare::Prepared;
use crate::terminal;

/// Parts of training that are counted apart, at most.
const STRETCHES: u64 = 5;

/// What stands for a strategy where no family has words of its own.
const COMMON: [&str; 8] = [
    "wait",
    "alternatively",
    "let me check|verify",
    "suppose|assume",
    "contradiction",
    "induction",
    "case|cases",
    "pattern",
];

/// What was counted in one part of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stretch {
    /// The first step and the last one; none for the collection.
    pub(super) steps: Option<(u64, u64)>,
    /// Rollouts.
    pub(super) traces: u64,
    /// In the order in which they were asked for.
    pub(super) strategies: Vec<StrategyCount>,
}

/// The strategies that `written` names, or those of the run's problems.
///
/// # Errors
/// One without a word.
pub(super) fn strategies(prepared: &Prepared, written: &[String]) -> Result<Vec<Strategy>> {
    let family = match prepared.plan.problems.source() {
        Some(recipe::Source::Synthetic(family)) => Some(family),
        _ => None,
    };
    let own: &[&str] = match family {
        Some(Family::Chain(_)) => &["slow", "fast", "again"],
        Some(Family::Countdown(_)) => &["try"],
        None => &COMMON,
    };
    let own = || own.iter().map(|&text| text.to_owned()).collect();
    let texts: Vec<String> = if written.is_empty() { own() } else { written.to_vec() };
    let strategy = |text: String| {
        let keywords: Vec<String> = text.split('|').map(|word| word.trim().to_owned()).collect();
        if keywords.iter().any(String::is_empty) {
            bail!("--keyword {text:?} has an empty phrase, expected words, or phrases with `|` between them");
        }
        Ok(Strategy { name: keywords[0].clone(), keywords })
    };
    texts.into_iter().map(strategy).collect()
}

pub(super) fn measure(
    place: &mut Workplace<'_>,
    strategies: &[Strategy],
    beginning: Option<usize>,
) -> Result<Vec<Stretch>> {
    let prepared = place.prepared;
    let store = prepared.folder.store()?;
    let starts = store.starts(&StartFilter::default())?;
    let prefixed: HashSet<StartId> =
        starts.into_iter().filter(|start| !start.is_plain()).map(|start| start.id).collect();
    // The step that each policy sampled. One that a step did not move samples several, and all of them count as
    // the first.
    let campaigns = store.campaigns()?;
    let has_trained = |version: &PolicyVersion| {
        campaigns.iter().any(|campaign| campaign.stage == Stage::Train && campaign.policy == *version)
    };
    let mut by_step: BTreeMap<u64, Vec<PolicyVersion>> = BTreeMap::new();
    for record in store.policies()?.into_iter().filter(|record| has_trained(&record.version)) {
        by_step.entry(record.step + 1).or_default().push(record.version);
    }
    let count = |found: &mut Stretch, traces: Vec<StoredTrace>| {
        found.traces += traces.len() as u64;
        let decode = |tokens: &[u32]| prepared.tokenizer.decode(tokens);
        let text = |stored: &StoredTrace| {
            let prefix = prefixed.contains(&stored.key.start).then(|| decode(&stored.trace.prefix));
            (prefix, decode(&stored.trace.completion.tokens))
        };
        let texts: Vec<_> = traces.iter().map(text).collect();
        let spoken = traces.iter().zip(&texts).map(|(stored, (prefix, completion))| Spoken {
            prefix: prefix.as_deref(),
            completion,
            prefix_tokens: stored.trace.prefix.len() as u64,
            completion_tokens: stored.trace.completion.tokens.len() as u64,
            is_correct: stored.verdict.outcome.is_correct(),
        });
        let counts = count_keywords(strategies, spoken, beginning);
        found.strategies.iter_mut().zip(counts).for_each(|(all, more)| all.merge(&more));
    };
    let empty = |steps| Stretch { steps, traces: 0, strategies: count_keywords(strategies, [], None) };

    place.tick("the collection")?;
    let mut collected = empty(None);
    let of = |stage, policy| TraceFilter { stage: Some(stage), policy: Some(policy), ..TraceFilter::default() };
    count(&mut collected, store.traces(&of(Stage::Collect, prepared.base.version()))?);
    let mut found = vec![collected];
    let steps = by_step.keys().last().copied().unwrap_or(0);
    let length = steps.div_ceil(STRETCHES).max(1);
    for first in (1..=steps).step_by(length as usize) {
        let last = (first + length - 1).min(steps);
        place.tick(&format!("steps {first} to {last}"))?;
        let mut stretch = empty(Some((first, last)));
        for version in by_step.range(first..=last).flat_map(|(_, versions)| versions) {
            count(&mut stretch, store.traces(&of(Stage::Train, version.clone()))?);
        }
        found.push(stretch);
    }
    found.retain(|stretch| stretch.traces > 0);
    if found.iter().all(|stretch| stretch.steps.is_none()) {
        bail!(
            "{} has no rollout of training to count words in\n\
             hint: [train] keep = \"all\" keeps them, in a run of another name",
            store.path().display()
        );
    }
    Ok(found)
}

pub(super) fn table(found: &[Stretch]) -> String {
    let share = |mentions: Mentions| match mentions.texts {
        0 => "–".to_owned(),
        texts => terminal::percent(mentions.mentioning as f64 / texts as f64),
    };
    let often = |mentions: Mentions| mentions.per_thousand().map_or("–".to_owned(), |often| format!("{often:.1}"));
    let row = |stretch: &Stretch, one: &StrategyCount| {
        let steps = stretch.steps.map_or("collection".to_owned(), |(first, last)| format!("{first} to {last}"));
        let (prefixed, plain) = (one.prefixed.all(), one.plain.all());
        vec![
            steps,
            one.name.clone(),
            share(one.prefixes),
            share(prefixed),
            often(prefixed),
            share(plain),
            often(plain),
            share(one.plain.correct),
            share(one.plain.wrong),
        ]
    };
    let rows: Vec<Vec<String>> =
        found.iter().flat_map(|stretch| stretch.strategies.iter().map(move |one| row(stretch, one))).collect();
    let headers = [
        "steps",
        "strategy",
        "in prefixes",
        "after prefixes",
        "per 1,000",
        "plain",
        "per 1,000",
        "plain, right",
        "plain, wrong",
    ];
    terminal::table(&headers, &rows)
}

//! Which starts go out, and what each is as text.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, bail};
use toehold_rollout::store::{StartFilter, StartKind};
use toehold_rollout::{Problem, Start, Store};
use toehold_training::CurriculumKind;
use toehold_training::curriculum::success_prefix::success_prefixes;

use super::Target;
use crate::material;
use crate::prepare::Prepared;

/// Which file a row goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// To learn from.
    Train,
    /// Held out.
    Test,
}

impl Split {
    /// The name of its file, without the end.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Test => "test",
        }
    }
}

/// One start, and all that a peer may want to know of it.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Where its rollouts begin.
    pub start: Start,
    /// Its problem.
    pub problem: Problem,
    /// The problem after the template.
    pub prompt: String,
    /// The prefix as text, end tokens written out.
    pub prefix: String,
    /// Learnt from or held out.
    pub split: Split,
}

/// Starts that do not go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Their text encodes to other ids.
    pub drift: usize,
    /// Another start has the same text.
    pub same_text: usize,
}

/// The starts of a run: every plain one of the recipe's band, the prefixed ones, and the held-out ones.
///
/// Prefixes of the success-prefix curriculum are cut here, as `toehold cut` does; of any other curriculum
/// they are those that the store has.
///
/// # Errors
/// There is none where the curriculum has some, or the store cannot be read.
pub fn choose(prepared: &Prepared, store: &Store, target: Target) -> Result<(Vec<Exported>, Left)> {
    let plain = material::starts_in_band(prepared, store)?;
    let prefixed = prefixed(prepared, store, &plain)?;
    let held_out = prepared.held_out_starts.iter().cloned().map(|start| (Split::Test, start));
    let train = plain.into_iter().chain(prefixed).map(|start| (Split::Train, start));
    let problems = prepared.all_problems();
    let problems: HashMap<&str, &Problem> = problems.iter().map(|problem| (problem.id.as_str(), problem)).collect();

    let (mut rows, mut left) = (Vec::new(), Left::default());
    let mut texts = HashSet::new();
    for (split, start) in train.chain(held_out) {
        let Some(&problem) = problems.get(start.problem.as_str()) else { continue };
        if problem.verifier.runs() {
            bail!(
                "problem {} is judged by the `{}` verifier, which runs a program, and an exported job has no place for it\n\
                 hint: train it here, or export problems whose answers are compared",
                problem.id,
                problem.verifier.as_str()
            );
        }
        // As the ids have it, whatever template, cue or example made them.
        let prompt = prepared.tokenizer.decode_raw(&start.prompt);
        let prefix = prepared.tokenizer.decode_raw(&start.prefix);
        let row = Exported { start, problem: problem.clone(), prompt, prefix, split };
        if target.is_text() && !survives(&row, prepared) {
            left.drift += 1;
        } else if target.is_told_by_text() && !texts.insert(row.text()) {
            left.same_text += 1;
        } else {
            rows.push(row);
        }
    }
    Ok((rows, left))
}

fn prefixed(prepared: &Prepared, store: &Store, plain: &[Start]) -> Result<Vec<Start>> {
    let wanted: HashSet<&str> = plain.iter().map(|start| start.problem.as_str()).collect();
    let prefixed = match &prepared.plan.curriculum {
        CurriculumKind::Plain(_) => return Ok(Vec::new()),
        CurriculumKind::SuccessPrefix(settings) => {
            let material = material::material(prepared, store)?;
            success_prefixes(settings, &material.sources, prepared.plan.run.seed)
        }
        _ => {
            let mut kept = store.starts(&StartFilter { kind: Some(StartKind::Prefixed), ..StartFilter::default() })?;
            kept.retain(|start| wanted.contains(start.problem.as_str()) && start.origin.is_some());
            kept
        }
    };
    if prefixed.is_empty() {
        bail!(
            "there is no prefix to export in {}\nhint: `{}` samples and cuts",
            store.path().display(),
            prepared.resume_command("run"),
        );
    }
    Ok(prefixed)
}

fn survives(row: &Exported, prepared: &Prepared) -> bool {
    let ids: Vec<_> = row.start.prompt.iter().chain(&row.start.prefix).copied().collect();
    prepared.tokenizer.encode(&row.text()).is_ok_and(|encoded| encoded == ids)
}

impl Exported {
    /// Prompt and prefix as one text.
    pub fn text(&self) -> String {
        format!("{}{}", self.prompt, self.prefix)
    }

    /// `plain` or `prefixed`.
    pub fn kind(&self) -> &'static str {
        if self.start.prefix.is_empty() { "plain" } else { "prefixed" }
    }
}

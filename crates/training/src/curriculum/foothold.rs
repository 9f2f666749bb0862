//! Our own: every group is begun where it is expected to teach the most per token.
//!
//! ```text
//! starts of a problem = the plain one, cuts of one success, cuts of one failure: a line of rising success
//! posterior           = of success at every start of every line, given all counts      (posterior.rs)
//! worth               = E[p (1 − p)] / (prompt + prefix + G · completion tokens)       (worth.rs)
//! open                = the start's interval meets [low, high]
//! a problem's start   = the plain one while its expected success is in [low, high];
//!                       else the open one of the most worth
//! a step's starts     = of the problems that waited longest, those of the most worth
//! each step           = counts · keep, for the policy has changed
//! ```
//!
//! No paper. It joins what others do apart: prefixes of successes for problems that always fail, of
//! failures for those that always succeed, plain starts for those between, all in one step. A count at one
//! start speaks of all others of its line, since success cannot fall along it, and lines speak of each
//! other through what they have in common; so few rollouts find the useful place, and none are spent on
//! a start whose interval has left the zone. As plain success rises, the useful place moves towards the
//! plain start, and when that is useful itself nothing is given any more.
//!
//! A curriculum does not sample: what estimates is also learnt from. Nothing is drawn: the same counts
//! give the same starts, and the seed decides between equals and which traces are cut.
//!
//! Zero cases: a problem without a trace that can be cut has its plain start alone. Where nothing is
//! open, `least` of the step is still given, to the problems that waited longest, each at its most worthy
//! start; a step can so be shorter than asked for, and no start is given twice in one. Counts that fade
//! open a start again.
//!
//! Doubts: worth per token favours long prefixes of successes, whose completions are short; what is
//! learnt there may not reach the plain start. `cost = "groups"` leaves tokens out. That success rises
//! along a line is a prior: a failure that recovers, or a success by luck, breaks it, and the counts are
//! then explained by a compromise. One success and one failure are cut per problem.

mod line;
pub mod posterior;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
pub mod worth;

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use toehold_rollout::StartId;

use self::line::{Part, Rungs};
use self::posterior::{Line, interval, learn, levels, likelihood, marginals};
use self::worth::{Cost, Value, expected, tokens};
use super::faded::Faded;
use super::{
    BuildError, Curriculum, Fate, GroupOutcome, Material, RestoreError, Selection, Traces, kept, named, refuse,
};
use crate::recipe::{RecipeError, section};

section! {
    /// Settings of the foothold curriculum. All are our choice.
    Foothold from FootholdWritten {
        /// Cuts of the success and of the failure of a problem, at even distances.
        cuts: usize = 9,
        /// Success below this is not useful, in `[0, high]`.
        low: f64 = 0.2,
        /// Success above this is not useful, in `[low, 1]`.
        high: f64 = 0.8,
        /// What a group is good for: `variance`, or `mixed` for the chance that it is mixed.
        value: Value = Value::Variance,
        /// What that is divided by: `tokens`; `learnt` for tokens per token learnt from; `groups` for nothing.
        cost: Cost = Cost::Tokens,
        /// What is left of a count a step later, in `(0, 1]`.
        keep: f64 = 0.95,
        /// The collected attempts of a problem count as this many at most.
        collected: u64 = 32,
        /// The share of the problems, those that waited longest, from which a step is chosen, in `[0, 1]`; at
        /// 0 they take turns.
        spread: f64 = 0.5,
        /// The share of a step that is given even if no start is open, in `(0, 1]`.
        least: f64 = 0.25,
    }
}

impl Foothold {
    /// It cuts successes and failures, and begins from the counts of both.
    pub(super) const TRACES: Traces = Traces::All;

    pub(super) fn checked(self) -> Result<Foothold, RecipeError> {
        match self {
            Foothold { cuts: 0, .. } => refuse("cuts", 0, "at least 1"),
            Foothold { high, .. } if !(0.0..=1.0).contains(&high) => refuse("high", high, "in [low, 1]"),
            Foothold { low, high, .. } if !(0.0..=high).contains(&low) => refuse("low", low, "in [0, high]"),
            Foothold { keep, .. } if !(keep > 0.0 && keep <= 1.0) => refuse("keep", keep, "in (0, 1]"),
            Foothold { spread, .. } if !(0.0..=1.0).contains(&spread) => refuse("spread", spread, "in [0, 1]"),
            Foothold { least, .. } if !(least > 0.0 && least <= 1.0) => refuse("least", least, "in (0, 1]"),
            _ => Ok(self),
        }
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        if material.plain.is_empty() {
            return Err(BuildError::NoStart { plain: 0, prefixed: 0, plain_share: 1.0 });
        }
        let lines = line::lines(self, material, seed);
        let mut places = HashMap::new();
        for (problem, line) in lines.iter().enumerate() {
            places.extend(line.rungs.iter().enumerate().map(|(rung, it)| (it.start.id.clone(), (problem, rung))));
        }
        let progress = Progress::new(&lines, self.collected as f64);
        Ok(Box::new(FootholdCurriculum { settings: self.clone(), levels: levels(), lines, places, progress }))
    }
}

/// Rounds in which what lines have in common is learnt. Few, since they are done anew in every step.
const SWEEPS: usize = 3;

/// The foothold curriculum at work.
struct FootholdCurriculum {
    settings: Foothold,
    levels: Vec<f64>,
    lines: Vec<Rungs>,
    /// The problem and the place in its line of a start.
    places: HashMap<StartId, (usize, usize)>,
    progress: Progress,
}

/// Its state.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Progress {
    step: u64,
    /// Rollouts of the last group that was heard of.
    group: u64,
    /// The count at each start of each line.
    counts: Vec<Vec<Faded>>,
    /// The step at which each problem was last given, from 1; 0 for never.
    given: Vec<u64>,
    /// Of each part of the lines, the tokens that completions had, and those that were left of the traces.
    lengths: [Faded; 3],
    /// Groups begun in each part of the lines, and those of all that were mixed.
    groups: [u64; 3],
    mixed: u64,
}

impl Progress {
    fn new(lines: &[Rungs], most: f64) -> Progress {
        let counts = |line: &Rungs| {
            let mut counts = vec![Faded::default(); line.rungs.len()];
            counts[line.plain].add(line.collected.successes as f64, line.collected.attempts as f64, most);
            counts
        };
        Progress {
            step: 0,
            group: 8,
            counts: lines.iter().map(counts).collect(),
            given: vec![0; lines.len()],
            lengths: [Faded::default(); 3],
            groups: [0; 3],
            mixed: 0,
        }
    }

    fn fits(&self, lines: &[Rungs]) -> bool {
        let is_of = |(counts, line): (&Vec<Faded>, &Rungs)| counts.len() == line.rungs.len();
        let problems = [self.counts.len(), self.given.len()];
        problems == [lines.len(); 2] && self.counts.iter().zip(lines).all(is_of)
    }
}

/// What is believed of a start.
#[derive(Clone, Copy, Debug)]
struct Belief {
    mean: f64,
    low: f64,
    high: f64,
    value: f64,
    tokens: f64,
}

impl Belief {
    fn worth(&self) -> f64 {
        self.value / self.tokens
    }

    fn is_useful(&self, settings: &Foothold) -> bool {
        (settings.low..=settings.high).contains(&self.mean)
    }

    fn is_open(&self, settings: &Foothold) -> bool {
        self.low <= settings.high && self.high >= settings.low
    }
}

impl FootholdCurriculum {
    /// What is believed of every start of every line.
    fn beliefs(&self) -> Vec<Vec<Belief>> {
        let line = |(counts, line): (&Vec<Faded>, &Rungs)| {
            let seen = |count: &Faded| likelihood(&self.levels, count.split().0, count.split().1);
            Line { seen: counts.iter().map(seen).collect(), plain: line.plain }
        };
        let lines: Vec<Line> = self.progress.counts.iter().zip(&self.lines).map(line).collect();
        let common = learn(&lines, self.levels.len(), SWEEPS);
        let beliefs = |(line, rungs): (&Line, &Rungs)| {
            let found = marginals(&common, line);
            found.iter().zip(&rungs.rungs).map(|(probabilities, rung)| self.belief(probabilities, rung)).collect()
        };
        lines.iter().zip(&self.lines).map(beliefs).collect()
    }

    fn belief(&self, probabilities: &[f64], rung: &line::Rung) -> Belief {
        let group = self.progress.group;
        let (low, high) = interval(&self.levels, probabilities, 0.05);
        let completion = rung.left * self.progress.lengths[rung.part as usize].ratio().unwrap_or(1.0);
        Belief {
            mean: self.levels.iter().zip(probabilities).map(|(level, p)| level * p).sum(),
            low,
            high,
            value: expected(self.settings.value, &self.levels, probabilities, group),
            tokens: tokens(self.settings.cost, rung.start.prompt.len() + rung.start.prefix.len(), group, completion),
        }
    }

    /// The open starts of a problem that may be given, the most worthy first.
    fn candidates(&self, problem: usize, beliefs: &[Belief]) -> Vec<usize> {
        let plain = self.lines[problem].plain;
        if beliefs[plain].is_useful(&self.settings) {
            return vec![plain];
        }
        let mut open: Vec<usize> = (0..beliefs.len()).filter(|&at| beliefs[at].is_open(&self.settings)).collect();
        open.sort_by(|&a, &b| beliefs[b].worth().total_cmp(&beliefs[a].worth()));
        open
    }

    /// Problem and place of the starts of a step.
    fn choose(&self, count: usize, beliefs: &[Vec<Belief>]) -> Vec<(usize, usize)> {
        let mut waiting: Vec<usize> = (0..self.lines.len()).collect();
        waiting.sort_by_key(|&problem| (self.progress.given[problem], self.lines[problem].lot));
        let candidates: Vec<Vec<usize>> = (0..self.lines.len()).map(|at| self.candidates(at, &beliefs[at])).collect();
        let open: Vec<usize> = waiting.iter().copied().filter(|&problem| !candidates[problem].is_empty()).collect();
        let looked_at = count.max((self.settings.spread * open.len() as f64).ceil() as usize).min(open.len());
        // A second start of a problem comes after the first of all others.
        let mut ranked: Vec<(usize, usize, usize)> = Vec::new();
        for &problem in &open[..looked_at] {
            ranked.extend(candidates[problem].iter().enumerate().map(|(rank, &at)| (rank, problem, at)));
        }
        let worth = |problem: usize, at: usize| beliefs[problem][at].worth();
        ranked.sort_by(|a, b| a.0.cmp(&b.0).then(worth(b.1, b.2).total_cmp(&worth(a.1, a.2))));
        let mut chosen: Vec<(usize, usize)> =
            ranked.into_iter().take(count).map(|(_, problem, at)| (problem, at)).collect();
        let least = (self.settings.least * count as f64).ceil() as usize;
        for problem in waiting.into_iter().filter(|&problem| candidates[problem].is_empty()) {
            if chosen.len() >= least {
                break;
            }
            let best = (0..beliefs[problem].len()).max_by(|&a, &b| worth(problem, a).total_cmp(&worth(problem, b)));
            chosen.extend(best.map(|at| (problem, at)));
        }
        chosen
    }

    fn why(&self, problem: usize, at: usize, belief: &Belief) -> String {
        let rung = &self.lines[problem].rungs[at];
        let of = rung.start.origin.as_ref().map_or(0, |origin| origin.source_tokens);
        let place = match rung.part {
            Part::Plain => "plain".to_owned(),
            part => format!("{} of {of} tokens of a {}", rung.start.prefix.len(), part.as_str()),
        };
        let Belief { mean, low, high, value, tokens, .. } = belief;
        let closed = if belief.is_open(&self.settings) { "" } else { ", nothing is open" };
        let cost = match self.settings.cost {
            Cost::Tokens => format!(" for {tokens:.0} tokens"),
            Cost::Learnt => format!(" for {tokens:.2} tokens per token learnt from"),
            Cost::Groups => String::new(),
        };
        format!("{place}: success {mean:.2} [{low:.2}, {high:.2}], worth {value:.3}{cost}{closed}")
    }

    fn material(&self) -> String {
        kept::name(self.lines.iter().flat_map(|line| &line.rungs).map(|rung| rung.start.as_ref()))
    }
}

impl Curriculum for FootholdCurriculum {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        self.progress.step += 1;
        let counts = self.progress.counts.iter_mut().flatten().chain(&mut self.progress.lengths);
        counts.for_each(|count| count.fade(self.settings.keep));
        let beliefs = self.beliefs();
        let mut selections = Vec::with_capacity(count);
        for (problem, at) in self.choose(count, &beliefs) {
            self.progress.given[problem] = self.progress.step;
            let why = self.why(problem, at, &beliefs[problem][at]);
            selections.push(Selection::new(self.lines[problem].rungs[at].start.clone(), why));
        }
        selections
    }

    fn observe(&mut self, selection: &Selection, outcome: GroupOutcome) -> Fate {
        let Some(&(problem, at)) = self.places.get(&selection.start.id) else { return Fate::Learnt };
        let rung = &self.lines[problem].rungs[at];
        let (part, attempts) = (rung.part as usize, outcome.count.attempts as f64);
        let progress = &mut self.progress;
        progress.counts[problem][at].add(outcome.count.successes as f64, attempts, attempts);
        let (found, left) = (outcome.completion_tokens as f64, attempts * rung.left);
        progress.lengths[part].add(found, left, left);
        progress.group = outcome.count.attempts.max(1);
        progress.groups[part] += 1;
        progress.mixed += u64::from(outcome.is_mixed());
        Fate::Learnt
    }

    fn state(&self) -> Json {
        kept::keep(self.material(), &self.progress)
    }

    fn restore(&mut self, state: &Json) -> Result<(), RestoreError> {
        let progress: Progress = kept::kept(state, &self.material())?;
        if !progress.fits(&self.lines) {
            return Err(RestoreError { reason: "`counts` are of other lines".to_owned() });
        }
        self.progress = progress;
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let beliefs = self.beliefs();
        let open = |(problem, beliefs): &(usize, &Vec<Belief>)| !self.candidates(*problem, beliefs).is_empty();
        let plain = |(line, beliefs): (&Rungs, &Vec<Belief>)| beliefs[line.plain];
        let plain: Vec<Belief> = self.lines.iter().zip(&beliefs).map(plain).collect();
        let mut metrics = named([
            ("problems_open", beliefs.iter().enumerate().filter(open).count() as f64),
            ("problems_useful_plain", plain.iter().filter(|belief| belief.is_useful(&self.settings)).count() as f64),
            ("plain_success", plain.iter().map(|belief| belief.mean).sum::<f64>() / plain.len() as f64),
            ("groups_mixed", self.progress.mixed as f64),
        ]);
        let groups = Part::ALL
            .map(|part| (format!("curriculum/groups_{}", part.as_str()), self.progress.groups[part as usize] as f64));
        metrics.extend(groups);
        metrics
    }
}

//! Hidden strings: problems that a policy cannot solve but by luck, and that a prefix makes easy.
#![allow(clippy::unwrap_used)] // A test that unwraps fails, which is its purpose.
#![allow(dead_code)] // Each test file uses a part.

use std::path::Path;

use toehold_rollout::collect::Judge;
use toehold_rollout::{Completion, Problem, ProblemId, SamplingParams, Start, Store, TokenId};
use toehold_training::curriculum::{Material, Source};
use toehold_training::evaluation::CountPlan;
use toehold_training::recipe::{Detect, Train};
use toehold_training::tabular::TabularPolicy;
use toehold_training::trainer::{Compute, EvaluationPlan, Listener, Setup, Summary, TrainError, TrainPlan, train};
use toehold_training::{CurriculumKind, Objective};
use toehold_verifier::{Outcome, Verdict, Verifier};

/// Problems whose only right completion is a string of bits, one per problem.
pub(crate) struct HiddenStrings {
    pub(crate) secrets: Vec<Vec<TokenId>>,
}

impl HiddenStrings {
    pub(crate) fn new(problems: usize, bits: usize) -> HiddenStrings {
        // Any fixed strings will do: the policy begins without a preference.
        let bit = |problem: usize, at: usize| ((problem * 7 + at * at * 5 + at) / 3 % 2) as TokenId;
        HiddenStrings { secrets: (0..problems).map(|p| (0..bits).map(|at| bit(p, at)).collect()).collect() }
    }

    pub(crate) fn bits(&self) -> usize {
        self.secrets[0].len()
    }

    fn id(problem: usize) -> ProblemId {
        ProblemId::from(format!("secret-{problem}"))
    }

    pub(crate) fn problems(&self) -> Vec<Problem> {
        let problem = |at: usize| Problem {
            id: HiddenStrings::id(at),
            problem: format!("string {at}"),
            answer: format!("{:?}", self.secrets[at]),
            verifier: Verifier::Exact,
            solution: None,
            cue: None,
        };
        (0..self.secrets.len()).map(problem).collect()
    }

    pub(crate) fn plain(&self) -> Vec<Start> {
        (0..self.secrets.len()).map(|at| Start::plain(HiddenStrings::id(at), vec![2 + at as TokenId])).collect()
    }

    pub(crate) fn material(&self) -> Material {
        let source = |(at, secret): (usize, &Vec<TokenId>)| Source {
            problem: HiddenStrings::id(at),
            prompt: vec![2 + at as TokenId],
            tokens: secret.clone(),
            row: Some(at as i64 + 1),
            is_correct: true,
            limit: secret.len(),
            inside: Vec::new(),
        };
        let sources: Vec<Source> = self.secrets.iter().enumerate().map(source).collect();
        let solutions = sources.iter().map(|source| Source { row: None, ..source.clone() }).collect();
        Material { plain: self.plain(), sources, solutions, cues: Vec::new() }
    }

    /// The policy that knows nothing: bits and one prompt token per problem are its vocabulary.
    pub(crate) fn policy(&self) -> TabularPolicy {
        let mut policy = TabularPolicy::uniform(2 + self.secrets.len(), usize::MAX, 1e9);
        policy.never(2..2 + self.secrets.len() as TokenId);
        policy
    }
}

impl Judge for HiddenStrings {
    fn judge(&self, start: &Start, completion: &Completion) -> Verdict {
        let secret = &self.secrets[start.prompt[0] as usize - 2];
        let is_right = start.prefix.iter().chain(&completion.tokens).take(secret.len()).eq(secret);
        Verdict { outcome: if is_right { Outcome::Correct } else { Outcome::Wrong }, extracted: None }
    }
}

pub(crate) fn params(max_tokens: u32) -> SamplingParams {
    SamplingParams::plain(max_tokens)
}

/// A plan of `steps` steps for the hidden strings, with its checkpoints in `folder`.
pub(crate) fn plan(strings: &HiddenStrings, steps: u64, folder: &Path) -> TrainPlan {
    let mut train = Train::read(toml::Table::new(), "train").unwrap();
    train.steps = steps;
    train.starts = 8;
    train.group = 8;
    train.learning_rate = 300.0;
    train.max_tokens = strings.bits() as u32;
    train.checkpoint_every = 2;
    TrainPlan {
        train,
        detect: Detect::read(toml::Table::new(), "detect").unwrap(),
        seed: 5,
        stop: Vec::new(),
        checkpoints: folder.join("checkpoints"),
        spent: Compute::default(),
        model: "table".to_owned(),
        tokenizer_hash: "none".to_owned(),
        evaluation: EvaluationPlan {
            every: 3,
            sets: vec![("train".to_owned(), strings.plain())],
            count: CountPlan { samples: 16, params: params(strings.bits() as u32), seed: 9, in_flight: 7 },
            k: vec![1, 4],
        },
    }
}

pub(crate) fn curriculum(text: &str) -> CurriculumKind {
    read::<CurriculumKind>(text)
}

pub(crate) fn objective(text: &str) -> Objective {
    read::<Objective>(text)
}

fn read<M: toehold_training::recipe::Method>(text: &str) -> M {
    let mut table: toml::Table = text.parse().unwrap();
    let kind = table.remove("kind").unwrap();
    M::read(kind.as_str().unwrap(), table).unwrap()
}

pub(crate) fn open_store(folder: &Path, strings: &HiddenStrings) -> Store {
    let mut store = Store::open(folder.join("traces.db")).unwrap();
    store.put_problems(&strings.problems()).unwrap();
    store
}

/// One run, or the rest of one, in `folder`.
pub(crate) fn run(
    strings: &HiddenStrings,
    policy: &mut TabularPolicy,
    kind: &str,
    objective_kind: &str,
    plan: &TrainPlan,
    folder: &Path,
    listener: &mut dyn Listener,
) -> Result<Summary, TrainError> {
    let mut store = open_store(folder, strings);
    let mut curriculum = curriculum(kind).build(strings.material(), plan.seed).unwrap();
    let objective = objective(objective_kind);
    let setup = Setup {
        store: &mut store,
        judge: strings,
        curriculum: curriculum.as_mut(),
        objective: &objective,
        plan,
        listener,
    };
    train(policy, setup)
}

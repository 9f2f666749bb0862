//! The whole method on one page: hidden strings, learnt from prefixes by a table.
//!
//! A string of 16 bits is guessed once in 65,536 tries. Plain RL gets no reward; started from the
//! prefixes of one right trace, the same loop with the same objective learns it. Run with
//! `cargo run --release -p toehold-training --example minimal_loop`.
#![allow(clippy::print_stdout)] // An example may print.

use std::error::Error;
use std::ops::ControlFlow;

use toehold_rollout::collect::Judge;
use toehold_rollout::{Completion, Problem, ProblemId, SamplingParams, Start, Store, TokenId};
use toehold_training::curriculum::{Material, Source, plain::Plain, success_prefix::SuccessPrefix};
use toehold_training::evaluation::CountPlan;
use toehold_training::objective::reinforce::Reinforce;
use toehold_training::recipe::{Detect, Train};
use toehold_training::tabular::TabularPolicy;
use toehold_training::trainer::{Compute, EvaluationPlan, Setup, TrainPlan, train};
use toehold_training::{CurriculumKind, Event};
use toehold_verifier::{Outcome, Verdict, Verifier};

const SECRET: [TokenId; 16] = [1, 0, 0, 1, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0, 1];
/// Stands for the problem; never sampled.
const PROMPT: TokenId = 2;

/// The verifier: prefix and completion together begin with the secret.
struct Secret;

impl Judge for Secret {
    fn judge(&self, start: &Start, completion: &Completion) -> Verdict {
        let is_right = start.prefix.iter().chain(&completion.tokens).take(SECRET.len()).eq(&SECRET);
        Verdict { outcome: if is_right { Outcome::Correct } else { Outcome::Wrong }, extracted: None }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let plain = CurriculumKind::Plain(Plain {});
    let prefixes = CurriculumKind::SuccessPrefix(SuccessPrefix { cuts: 16, from: 0.0, to: 1.0, plain_share: 0.25 });
    for (name, curriculum) in [("plain RL", plain), ("PrefixRL", prefixes)] {
        println!("{name}");
        learn(&curriculum)?;
    }
    Ok(())
}

fn learn(curriculum: &CurriculumKind) -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("toehold-minimal-loop-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;

    // The problem, and one trace of it that was right.
    let id = ProblemId::from("secret");
    let (problem, answer) = ("say it".to_owned(), "it".to_owned());
    let problem = Problem { id: id.clone(), problem, answer, verifier: Verifier::Exact, solution: None, cue: None };
    let start = Start::plain(id.clone(), vec![PROMPT]);
    let (prompt, tokens) = (vec![PROMPT], SECRET.to_vec());
    let trace =
        Source { problem: id, prompt, tokens, row: Some(1), is_correct: true, limit: SECRET.len(), inside: vec![] };

    // Where traces are kept, who samples and learns, and how much.
    let mut store = Store::open(folder.join("traces.db"))?;
    store.put_problems(&[problem])?;
    let mut policy = TabularPolicy::uniform(3, usize::MAX, f64::INFINITY);
    policy.never([PROMPT]);
    let params = SamplingParams::plain(16);
    let table = "steps = 100\nstarts = 8\ngroup = 8\nlearning_rate = 300.0\nclip = 1e9\nmax_tokens = 16";
    let plan = TrainPlan {
        train: Train::read(table.parse()?, "train")?,
        detect: Detect::read(toml::Table::new(), "detect")?,
        seed: 0,
        stop: Vec::new(),
        checkpoints: folder.join("checkpoints"),
        spent: Compute::default(),
        model: "table".to_owned(),
        tokenizer_hash: "none".to_owned(),
        evaluation: EvaluationPlan {
            every: 20,
            sets: vec![("plain".to_owned(), vec![start.clone()])],
            count: CountPlan { samples: 256, params, seed: 1, in_flight: 256 },
            k: vec![1],
        },
    };

    // Select, sample, verify, store, observe, weigh, accumulate, step.
    let material = Material { plain: vec![start], sources: vec![trace], ..Material::default() };
    let mut curriculum = curriculum.build(material, plan.seed)?;
    let mut listener = |event: &Event| {
        if let Event::Evaluated(event) = event {
            println!("  after {:>3} steps: {}", event.step, event.count);
        }
        ControlFlow::Continue(())
    };
    let setup = Setup {
        store: &mut store,
        judge: &Secret,
        curriculum: curriculum.as_mut(),
        objective: &Reinforce {},
        plan: &plan,
        listener: &mut listener,
    };
    train(&mut policy, setup)?;
    drop(store);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

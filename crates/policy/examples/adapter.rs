//! Trains an adapter on each small checkpoint, for PEFT to load:
//! `cargo run --release -p toehold-policy --example adapter -- crates/policy/tests/data OUT`.
//!
//! Writes, by checkpoint, `OUT/NAME/adapter` (PEFT's files), `OUT/NAME/merged` (an ordinary model folder) and
//! `OUT/NAME/ours.json` (tokens and our logits); `interop/transformers/adapters.py --saved OUT` compares.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example to be looked at")]

use std::path::PathBuf;

use toehold_policy::{Adapter, Lora, Policy, PolicyOptions, Scaling, Target};
use toehold_rollout::{Completion, Learner, PolicyVersion, StopReason, Trace};

fn main() {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let (data, out) = (arguments.next().expect("a folder of checkpoints"), arguments.next().expect("a folder"));
    let mut folders: Vec<PathBuf> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    for (number, folder) in folders.iter().enumerate() {
        let name = folder.file_name().unwrap();
        // Every other one has some of the matrices and the other scale.
        let (targets, scaling) = match number % 2 {
            0 => (Target::ALL.to_vec(), Scaling::ByRank),
            _ => (vec![Target::Query, Target::Value, Target::Down], Scaling::ByRootOfRank),
        };
        let base = Policy::open(folder, PolicyOptions::default()).unwrap();
        let lora = Lora { rank: 4, alpha: 8.0, targets, scaling };
        let adapter = Adapter::random(base.config(), lora, number as u64).unwrap();
        let mut policy = base.with_adapter(adapter).unwrap();
        let tokens: Vec<u32> = (0..24).map(|i| (i * 7 + 3) % 60).collect();
        let completion = Completion { tokens: tokens[4..].to_vec(), behavior: vec![0.0; 20], stop: StopReason::Length };
        let sampled_by = PolicyVersion { weights: String::new() };
        let trace = Trace { prompt: tokens[..4].to_vec(), prefix: Vec::new(), completion, sampled_by };
        for _ in 0..5 {
            policy.accumulate(&[&trace], &mut |_, scores| vec![-0.1; scores.current.len()]).unwrap();
            policy.step(2e-2).unwrap();
        }
        let target = out.join(name);
        std::fs::create_dir_all(target.join("adapter")).unwrap();
        policy.adapter().unwrap().save(&target.join("adapter"), Some(folder)).unwrap();
        policy.save_new_folder(&target.join("merged")).unwrap();
        let logits = policy.logits(&tokens).unwrap();
        let ours = serde_json::json!({ "tokens": tokens, "logits": logits });
        std::fs::write(target.join("ours.json"), ours.to_string()).unwrap();
        println!("{}: {} numbers learnt", name.display(), policy.adapter().unwrap().weights().count());
    }
}

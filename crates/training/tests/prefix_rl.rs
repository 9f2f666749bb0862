//! The separation of PrefixRL from plain RL (proposition 3.4) on hidden strings, end to end.
//!
//! A string of H bits is found by luck once in 2^H rollouts, so plain RL with fewer rollouts than that
//! gets no reward and does not move. From the prefixes of one right trace it is learnt bit by bit from
//! the end, and what was learnt there lets shorter prefixes, and at last the plain problem, succeed.
#![allow(clippy::unwrap_used)] // A test that unwraps fails, which is its purpose.

mod common;

use std::ops::ControlFlow;

use common::{HiddenStrings, curriculum, objective, open_store, params, plan, run};
use expect_test::expect;
use toehold_rollout::collect::{Amount, Campaign, collect};
use toehold_rollout::store::{PolicyRecord, Stage, TraceFilter};
use toehold_rollout::{Completion, Learner, Sampler, Trace};
use toehold_training::Event;
use toehold_training::curriculum::{Material, Source};
use toehold_training::evaluation::prefix_sweep::prefix_sweep;
use toehold_training::recipe::{Keep, Sft};
use toehold_training::trainer::{Compute, ImitationPlan, Setup, StopReason, imitate, train};
use toehold_verifier::Verifier;

const PREFIX: &str = "kind = \"success-prefix\"\ncuts = 16\nfrom = 0.0\nto = 1.0\n";
const STEPS: u64 = 150;

/// Success on the plain problems before and after, and how many rollouts were rewarded.
fn outcome(curriculum: &str, objective: &str) -> (f64, f64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let strings = HiddenStrings::new(2, 16);
    let mut plan = plan(&strings, STEPS, folder.path());
    plan.evaluation.every = 0;
    let (mut rates, mut rewarded) = (Vec::new(), 0);
    let mut listener = |event: &Event| {
        match event {
            Event::Evaluated(event) => rates.push(event.count.rate().unwrap()),
            Event::Step(event) => rewarded += event.plain.count.successes + event.prefixed.count.successes,
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let mut policy = strings.policy();
    let summary = run(&strings, &mut policy, curriculum, objective, &plan, folder.path(), &mut listener).unwrap();
    assert_eq!((summary.step, summary.reason), (STEPS, StopReason::Steps));
    (rates[0], rates[1], rewarded)
}

#[test]
fn plain_rl_gets_no_reward_and_does_not_move() {
    assert_eq!(outcome("kind = \"plain\"", "kind = \"reinforce\""), (0.0, 0.0, 0));
}

#[test]
fn prefix_rl_learns_the_plain_problem() {
    let (before, after, _) = outcome(PREFIX, "kind = \"reinforce\"");
    assert_eq!(before, 0.0);
    assert!(after > 0.9, "{after}");
}

#[test]
fn so_does_grpo_from_prefixes() {
    let (before, after, _) = outcome(PREFIX, "kind = \"grpo\"");
    assert_eq!(before, 0.0);
    assert!(after > 0.9, "{after}");
}

/// The whole chain of a run: collect until one success, cut, train, sweep.
#[test]
fn from_collection_to_a_prefix_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let strings = HiddenStrings::new(2, 8);
    let mut policy = strings.policy();
    let mut store = open_store(folder.path(), &strings);
    let (version, model) = (policy.version(), "table".to_owned());
    let record = PolicyRecord { version, model, tokenizer_hash: "none".to_owned(), step: 0, parent: None };
    store.put_policy(&record).unwrap();
    let amount = Amount::UntilSuccess { successes: 1, at_most: 5_000 };
    let campaign = Campaign { seed: 1, stage: Stage::Collect, params: params(8), amount, in_flight: 64 };
    collect(&mut store, &mut policy, &strings, &strings.plain(), &campaign, &mut |_| ControlFlow::Continue(()))
        .unwrap();

    // No answer appears in this text, so a trace may be cut anywhere.
    let decode = |tokens: &[u32]| "·".repeat(tokens.len());
    let traces = store.traces(&TraceFilter::default()).unwrap();
    let sources: Vec<Source> = traces.iter().map(|trace| Source::of_stored(trace, Verifier::Answer, &decode)).collect();
    assert_eq!(sources.iter().filter(|source| source.is_correct).count(), 2);
    let sweep: Vec<Source> = sources.iter().filter(|source| source.is_correct).cloned().collect();
    let mut plan = plan(&strings, 40, folder.path());
    plan.spent = Compute {
        sampled_tokens: traces.iter().map(|trace| trace.trace.completion.tokens.len() as u64 + 1).sum(),
        trained_tokens: 0,
    };
    let material = Material { plain: strings.plain(), sources, ..Material::default() };
    let mut curriculum = curriculum(PREFIX).build(material, plan.seed).unwrap();
    let shares = [0.0, 0.5, 0.75];
    let before = prefix_sweep(&mut policy, &strings, &sweep, &shares, &plan.evaluation.count).unwrap();
    let objective = objective("kind = \"reinforce\"");
    let setup = Setup {
        store: &mut store,
        judge: &strings,
        curriculum: curriculum.as_mut(),
        objective: &objective,
        plan: &plan,
        listener: &mut |_: &Event| ControlFlow::Continue(()),
    };
    let summary = train(&mut policy, setup).unwrap();
    assert!(summary.compute.sampled_tokens > plan.spent.sampled_tokens);
    let after = prefix_sweep(&mut policy, &strings, &sweep, &shares, &plan.evaluation.count).unwrap();
    for (before, after) in before.iter().zip(&after) {
        assert!(after.count.successes > before.count.successes, "{before:?} {after:?}");
        assert_eq!(after.count.attempts, 32);
        assert!(after.count.rate().unwrap() > 0.9, "{after:?}");
    }
    // Every training rollout is kept beside the collected ones.
    let count = |stage| store.success(&TraceFilter { stage: Some(stage), ..TraceFilter::default() }).unwrap().attempts;
    assert_eq!((count(Stage::Collect), count(Stage::Train)), (traces.len() as u64, 40 * 64));
}

/// A policy that does not move is still asked for other rollouts in every step.
#[test]
fn silent_steps_are_no_copies_of_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let strings = HiddenStrings::new(2, 16);
    let mut policy = strings.policy();
    let version = policy.version();
    let mut plan = plan(&strings, 3, folder.path());
    let mut listener = |_: &Event| ControlFlow::Continue(());
    let kinds = ("kind = \"plain\"", "kind = \"reinforce\"");
    run(&strings, &mut policy, kinds.0, kinds.1, &plan, folder.path(), &mut listener).unwrap();
    assert_eq!(policy.version(), version);
    let traces = open_store(folder.path(), &strings).traces(&TraceFilter::default()).unwrap();
    let mut completions: Vec<&Vec<u32>> = traces.iter().map(|trace| &trace.trace.completion.tokens).collect();
    completions.sort();
    completions.dedup();
    assert_eq!(traces.len(), 3 * 64);
    assert!(completions.len() > 180, "{}", completions.len());

    let folder = tempfile::tempdir().unwrap();
    plan.train.keep = Keep::None;
    plan.checkpoints = folder.path().join("checkpoints");
    run(&strings, &mut policy, kinds.0, kinds.1, &plan, folder.path(), &mut listener).unwrap();
    assert_eq!(open_store(folder.path(), &strings).traces(&TraceFilter::default()).unwrap(), []);
}

#[test]
fn imitation_learns_what_it_is_shown() {
    let strings = HiddenStrings::new(2, 16);
    let mut policy = strings.policy();
    let trace = |(at, secret): (usize, &Vec<u32>)| Trace {
        prompt: vec![2 + at as u32],
        prefix: secret[..4].to_vec(),
        completion: Completion { tokens: secret[4..].to_vec(), ..Completion::default() },
        sampled_by: policy.version(),
    };
    let traces: Vec<Trace> = strings.secrets.iter().enumerate().map(trace).collect();
    let mut sft = Sft::read(toml::Table::new(), "sft").unwrap();
    sft.epochs = 20;
    sft.batch = 1;
    sft.learning_rate = 20.0;
    let plan = ImitationPlan { sft, seed: 0, max_tokens: 16 };
    let mut losses = Vec::new();
    let mut listener = |event: &Event| {
        if let Event::Imitated(event) = event {
            losses.push(event.loss);
        }
        ControlFlow::Continue(())
    };
    let spent = imitate(&mut policy, &traces.iter().collect::<Vec<_>>(), &plan, &mut listener).unwrap();
    // 20 epochs of 2 traces of 1 + 4 + 12 tokens.
    assert_eq!(spent, ControlFlow::Continue(Compute { sampled_tokens: 0, trained_tokens: 680 }));
    assert!((losses[0] - 2f64.ln()).abs() < 1e-6 && losses[39] < 0.05, "{losses:?}");
    policy.publish().unwrap();
    // What was given was not learnt.
    assert_eq!(policy.chances(&[2])[..2], [0.5, 0.5]);
}

#[test]
fn a_step_is_one_line_of_json() {
    let folder = tempfile::tempdir().unwrap();
    let strings = HiddenStrings::new(2, 4);
    let mut lines = Vec::new();
    let mut listener = |event: &Event| {
        lines.push(serde_json::to_string(event).unwrap());
        ControlFlow::Continue(())
    };
    let plan = plan(&strings, 1, folder.path());
    let mut policy = strings.policy();
    run(&strings, &mut policy, PREFIX, "kind = \"reinforce\"", &plan, folder.path(), &mut listener).unwrap();
    let line = |name: &str| lines.iter().find(|line| line.contains(name)).unwrap().clone();
    expect![[r#"{"event":"started","step":0,"policy":{"weights":"af1349b9f5f9a1a6"},"compute":{"sampled_tokens":0,"trained_tokens":0},"flops":0.0}"#]].assert_eq(&line("\"started\""));
    expect![[r#"{"event":"group","step":1,"problem":"secret-0","start":"e718d8a31776ee81","prefix_tokens":3,"source_tokens":4,"why":"3 of 4 tokens of a success, epoch 0","count":{"successes":2,"attempts":8}}"#]].assert_eq(&line("\"group\""));
    expect![[r#"{"event":"step","step":1,"policy":{"weights":"af1349b9f5f9a1a6"},"reward":0.15625,"outcomes":{"correct":10,"wrong":54},"plain":{"count":{"successes":1,"attempts":16},"groups":{"all_fail":1,"mixed":1,"all_pass":0}},"prefixed":{"count":{"successes":9,"attempts":48},"groups":{"all_fail":1,"mixed":5,"all_pass":0}},"entropy":0.6931471824645996,"completion_tokens":4.0,"cut_off":64,"trained_traces":48,"mismatch":0.0,"gradient":{"gradient_norm":0.033088035832221516,"clipped":false,"moments":null},"learning_rate":300.0,"compute":{"sampled_tokens":276,"trained_tokens":328},"flops":40320.0,"curriculum":{"curriculum/plain_epoch":1.0,"curriculum/prefixed_epoch":1.0,"curriculum/prefixes":6.0,"curriculum/problems_with_prefix":2.0},"detectors":{"answers/flagged":0.0,"collapse/flagged":0.0,"lone/flagged":2.0,"lone/mean":0.3333333333333333,"parroting/flagged":0.0,"parroting/mean":0.125,"parroting/p95":0.5,"repetition/flagged":0.0,"repetition/mean":0.0859375,"repetition/p95":0.5,"skipping/flagged":0.0}}"#]].assert_eq(&line("\"step\",\"step\""));
    expect![[r#"{"event":"evaluated","step":0,"set":"train","count":{"successes":1,"attempts":32},"pass_at_k":[{"k":1,"mean":0.03125,"interval":{"low":0.0,"high":0.0625},"problems":2},{"k":4,"mean":0.125,"interval":{"low":0.0,"high":0.25},"problems":2}],"problems":[{"problem":"secret-0","count":{"successes":1,"attempts":16},"tokens":64},{"problem":"secret-1","count":{"successes":0,"attempts":16},"tokens":64}],"flops":0.0}"#]].assert_eq(&line("\"evaluated\""));
    expect![[r#"{"event":"finished","step":1,"reason":"steps","compute":{"sampled_tokens":276,"trained_tokens":328},"flops":40320.0}"#]].assert_eq(&line("\"finished\""));
}

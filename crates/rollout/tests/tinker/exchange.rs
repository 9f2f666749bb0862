//! One short life of a model on a server of the Tinker API, as text: what `tests/tinker.rs` replays, and
//! `examples/tinker.rs` does with a real server.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use toehold_rollout::remote::http::Address;
use toehold_rollout::remote::tinker::{Adam, Passes, Tinker, TinkerError, TinkerOptions};
use toehold_rollout::{
    Completion, ConfidenceStop, Learner as _, PolicyVersion, SampleRequest, Sampler as _, SamplingParams, Scorer as _,
    Trace,
};

pub(crate) fn options(address: &str, base_model: &str) -> TinkerOptions {
    TinkerOptions {
        address: Address::parse(address).unwrap(),
        key: None,
        base_model: base_model.to_owned(),
        rank: 4,
        seed: 1,
        adam: Adam { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.0 },
        passes: Passes::Two,
        reduction: None,
        patience: Duration::from_secs(300),
        vocabulary: 31,
        positions: 1024,
        parameters: 100_000,
        base_version: PolicyVersion { weights: "0123456789abcdef".to_owned() },
    }
}

/// Samples four completions, learns that the first two are better than the others, and looks at what came of
/// it; `dir` is for a checkpoint.
pub(crate) fn live(address: &str, base_model: &str, dir: &Path) -> Result<String, TinkerError> {
    let mut said = String::new();
    let mut tinker = Tinker::connect(options(address, base_model))?;
    writeln!(said, "reduction {:?}", tinker.reduction()).unwrap();
    let params = SamplingParams { stop: vec![0], ..SamplingParams::plain(16) };
    let request = |index: u64| SampleRequest {
        // `from 2 a1 1 a2 0 b1 3 b2 2` and three kin, in the words of the base that `toehold pretrain` makes.
        prompt: vec![2, 8, 11, 6 + index as u32, 12, 6, 14, 9, 15, 8].into(),
        prefix: Vec::new().into(),
        params: params.clone(),
        seed: index << 40,
    };
    let requests: Vec<SampleRequest> = (0..4).map(request).collect();
    let mut stopping = requests.clone();
    stopping[1].params.stop_below = Some(ConfidenceStop { window: 4, below: -1.0 });
    let refused = tinker.sample(&stopping, &mut |_, _| ControlFlow::Continue(())).unwrap_err();
    writeln!(said, "{refused}").unwrap();
    let mut completions = vec![Completion::default(); requests.len()];
    tinker
        .sample(&requests, &mut |index, completion| {
            completions[index] = completion;
            ControlFlow::Continue(())
        })
        .unwrap();
    let sampled_by = tinker.version();
    let traces: Vec<Trace> = requests
        .iter()
        .zip(completions)
        .map(|(request, completion)| Trace {
            prompt: request.prompt.to_vec(),
            prefix: Vec::new(),
            completion,
            sampled_by: sampled_by.clone(),
        })
        .collect();
    let traces: Vec<&Trace> = traces.iter().collect();
    let before = sums(&mut tinker, &traces);
    for (trace, before) in traces.iter().zip(&before) {
        let behavior: f32 = trace.completion.behavior.iter().sum();
        let (tokens, stop) = (trace.completion.tokens.len(), trace.completion.stop.as_str());
        writeln!(said, "{tokens:2} tokens, {stop}: behavior {behavior:.3}, current {before:.3}").unwrap();
    }
    tinker
        .accumulate(&traces, &mut |index, scores| {
            let advantage = if index < 2 { 0.01 } else { -0.01 };
            vec![-advantage; scores.current.len()]
        })
        .unwrap();
    writeln!(said, "gradient {:.4}", tinker.step(0.001).unwrap().gradient_norm).unwrap();
    let published = tinker.publish().unwrap();
    // A step without anything to learn moves nothing, and a server takes a name once.
    assert_eq!(tinker.publish().unwrap(), published);
    let after = sums(&mut tinker, &traces);
    writeln!(said, "another version: {}", published != sampled_by).unwrap();
    for (before, after) in before.iter().zip(&after) {
        writeln!(said, "moved by {:+.3}", after - before).unwrap();
    }
    tinker.save(dir).unwrap();
    tinker.restore(dir).unwrap();
    writeln!(said, "restored as it was: {}", sums(&mut tinker, &traces) == after).unwrap();
    writeln!(said, "under another version: {}", tinker.publish().unwrap() != published).unwrap();
    tinker
        .sample(&requests[..1], &mut |_, completion| {
            writeln!(said, "{} tokens by the restored", completion.tokens.len()).unwrap();
            ControlFlow::Continue(())
        })
        .unwrap();
    Ok(said)
}

fn sums(tinker: &mut Tinker, traces: &[&Trace]) -> Vec<f32> {
    tinker.score(traces).unwrap().iter().map(|scores| scores.current.iter().sum()).collect()
}

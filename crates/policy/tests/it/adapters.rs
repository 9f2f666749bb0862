//! Adapters: gradients, what they add, what they share, what is saved, and PEFT's own numbers.

use std::path::Path;

use expect_test::{Expect, expect};
use safetensors::SafeTensors;
use toehold_policy::{
    Adapter, Dtype, Implementation, Lora, ModelConfig, Policy, PolicyOptions, Scaling, Target, Weights,
};
use toehold_rollout::{Learner, Sampler, Scorer, Trace};

use crate::learning::{coefficients, loss};
use crate::{data, options, plain, request, sample, small, tokens, trace};

fn lora(rank: usize, targets: &[Target]) -> Lora {
    Lora { rank, alpha: 6.0, targets: targets.to_vec(), scaling: Scaling::ByRank }
}

fn traces(count: u64) -> Vec<Trace> {
    (0..count)
        .map(|i| trace(&tokens(1 + (i % 4) as usize, i + 10, 37), &[], &tokens(1 + (i * 5 % 9) as usize, i + 30, 37)))
        .collect()
}

/// A policy with an adapter that has learnt a little, so that no B is zero.
fn adapted(config: &ModelConfig, lora: Lora, options: PolicyOptions) -> Policy {
    let adapter = Adapter::random(config, lora, 3).unwrap();
    let mut policy = Policy::random(config, 5, options).unwrap().with_adapter(adapter).unwrap();
    learn(&mut policy, 3);
    policy
}

fn learn(policy: &mut Policy, steps: usize) {
    let traces = traces(6);
    let traces: Vec<&Trace> = traces.iter().collect();
    for _ in 0..steps {
        policy.accumulate(&traces, &mut coefficients).unwrap();
        policy.step(3e-2).unwrap();
    }
    policy.publish().unwrap();
}

const SOME: [&[Target]; 4] =
    [&Target::ALL, &[Target::Query, Target::Value], &[Target::Output], &[Target::Up, Target::Key, Target::Down]];

/// Central differences of the loss along each tensor's own gradient and along a fixed pattern.
#[test]
fn an_adapters_gradient_is_its_finite_difference() {
    for targets in SOME {
        let policy = adapted(&small(true), lora(3, targets), options(2));
        let traces = traces(5);
        let traces: Vec<&Trace> = traces.iter().collect();
        let mut learner = policy.fork();
        learner.accumulate(&traces, &mut coefficients).unwrap();
        let adapter = policy.adapter().unwrap();
        for (i, gradient) in learner.gradient().iter().enumerate() {
            let pattern: Vec<f32> = (0..gradient.len()).map(|j| [1.0, -1.0, 0.5][j % 3]).collect();
            for direction in [gradient, &pattern] {
                let length = direction.iter().map(|d| d * d).sum::<f32>().sqrt();
                let size = 3e-3;
                let moved = |sign: f32| {
                    let mut weights = adapter.weights().clone();
                    for (value, d) in weights.tensors[i].values.iter_mut().zip(direction) {
                        *value += sign * size * d / length;
                    }
                    loss(&mut policy.fork().with_adapter(with_numbers(adapter, &weights)).unwrap(), &traces)
                };
                let found = (moved(1.0) - moved(-1.0)) / (2.0 * f64::from(size));
                let slope: f64 =
                    gradient.iter().zip(direction).map(|(g, d)| f64::from(*g) * f64::from(*d / length)).sum();
                let scale = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
                let name = &adapter.weights().tensors[i].name;
                assert!(
                    (found - slope).abs() < 2e-3 + 5e-3 * f64::from(scale),
                    "{name}: the difference is {found}, the gradient gives {slope} (norm {scale})"
                );
            }
        }
    }
}

/// The same adapter with other numbers, by way of a folder.
fn with_numbers(adapter: &Adapter, weights: &Weights) -> Adapter {
    let dir = tempfile::tempdir().unwrap();
    adapter.save(dir.path(), None).unwrap();
    let views = weights.tensors.iter().map(|tensor| {
        let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        (format!("base_model.model.{}", tensor.name), tensor.shape.clone(), bytes)
    });
    crate::checkpoint::write(&dir.path().join("adapter_model.safetensors"), views);
    Adapter::read(dir.path(), &small(true)).unwrap()
}

#[test]
fn host_and_graph_agree_on_an_adapter() {
    for targets in SOME {
        for tied in [false, true] {
            let traces = traces(20);
            let traces: Vec<&Trace> = traces.iter().collect();
            let [host, graph] = [Implementation::Host, Implementation::Graph].map(|implementation| {
                let options = PolicyOptions { implementation, ..options(2) };
                let mut policy = adapted(&small(tied), lora(2, targets), options);
                policy.accumulate(&traces, &mut coefficients).unwrap();
                policy
            });
            for (i, tensor) in host.adapter().unwrap().weights().tensors.iter().enumerate() {
                let (a, b) = (&host.gradient()[i], &graph.gradient()[i]);
                let largest = b.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                assert!(largest > 0.0, "{} learns", tensor.name);
                for (a, b) in a.iter().zip(b) {
                    assert!((a - b).abs() < 1e-3 * largest, "{}: {a} on the host, {b} in the graph", tensor.name);
                }
            }
        }
    }
}

/// The gradient of `W + s·BA` by W gives those of A and B: `s · Bᵀ d_W` and `s · d_W Aᵀ`.
#[test]
fn an_adapters_gradient_is_the_merged_weights_projected() {
    let lora = Lora { scaling: Scaling::ByRootOfRank, ..lora(3, &Target::ALL) };
    let policy = adapted(&small(false), lora, options(1));
    let scale = policy.adapter().unwrap().lora().scale();
    assert!((scale - 6.0 / 3f32.sqrt()).abs() < 1e-6);
    let traces = traces(8);
    let traces: Vec<&Trace> = traces.iter().collect();
    let dir = tempfile::tempdir().unwrap();
    policy.save_folder(dir.path()).unwrap();
    let mut merged = Policy::open(dir.path(), options(1)).unwrap();
    merged.accumulate(&traces, &mut coefficients).unwrap();
    let mut learner = policy.fork();
    learner.accumulate(&traces, &mut coefficients).unwrap();
    let adapter = &policy.adapter().unwrap().weights().tensors;
    let place = |name: &str| merged.weights().tensors.iter().position(|tensor| tensor.name == name).unwrap();
    for pair in 0..adapter.len() / 2 {
        // A stands before B.
        let [down, up] = [&adapter[2 * pair], &adapter[2 * pair + 1]];
        let matrix = place(&down.name.replace(".lora_A", ""));
        let d = &merged.gradient()[matrix];
        let (rank, inputs) = (down.shape[0], down.shape[1]);
        let outputs = up.shape[0];
        let mut expected = [vec![0.0; rank * inputs], vec![0.0; outputs * rank]];
        for (o, r, i) in (0..outputs).flat_map(|o| (0..rank).flat_map(move |r| (0..inputs).map(move |i| (o, r, i)))) {
            let slope = scale * d[o * inputs + i];
            expected[0][r * inputs + i] += up.values[o * rank + r] * slope;
            expected[1][o * rank + r] += slope * down.values[r * inputs + i];
        }
        for (number, expected) in expected.iter().enumerate() {
            let found = &learner.gradient()[2 * pair + number];
            let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 1e-4 * largest, "{}: {a}, expected {b}", adapter[2 * pair + number].name);
            }
        }
    }
}

#[test]
fn a_fresh_adapter_changes_no_bit_and_has_its_bases_name() {
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let config = small(true);
        let mut base = Policy::random(&config, 5, PolicyOptions { dtype, ..options(1) }).unwrap();
        let adapter = Adapter::random(&config, lora(4, &Target::ALL), 1).unwrap();
        let mut policy = base.fork().with_adapter(adapter.clone()).unwrap();
        let tokens = tokens(60, 2, 37);
        assert_eq!(policy.logits(&tokens).unwrap(), base.logits(&tokens).unwrap());
        assert_eq!(policy.version(), base.version());
        learn(&mut policy, 1);
        assert_ne!(policy.version(), base.version());
        assert_eq!(policy.weights(), base.weights(), "the base is frozen");
        assert_ne!(policy.logits(&tokens).unwrap(), base.logits(&tokens).unwrap());
        // PEFT's beginning: A uniform in ±1/√inputs, B zeros; the seed decides.
        for tensor in &adapter.weights().tensors {
            let bound = 1.0 / (tensor.shape[1] as f32).sqrt();
            let largest = tensor.values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            let fits =
                if tensor.name.contains("lora_A") { largest > 0.8 * bound && largest <= bound } else { largest == 0.0 };
            assert!(fits, "{}: {largest}, the bound is {bound}", tensor.name);
        }
        assert_eq!(Adapter::random(&config, lora(4, &Target::ALL), 1).unwrap(), adapter);
        assert_ne!(Adapter::random(&config, lora(4, &Target::ALL), 2).unwrap(), adapter);
    }
}

/// What is sampled beside frozen weights is what the merged weights give, up to rounding.
#[test]
fn merged_weights_give_the_same_logits() {
    for (dtype, bound) in [(Dtype::F32, 2e-5), (Dtype::Bf16, 0.15)] {
        let mut policy = adapted(&small(false), lora(3, &Target::ALL), PolicyOptions { dtype, ..options(2) });
        let dir = tempfile::tempdir().unwrap();
        policy.save_folder(dir.path()).unwrap();
        let mut merged = Policy::open(dir.path(), PolicyOptions { dtype, ..options(2) }).unwrap();
        assert_eq!(*merged.weights(), policy.merged_weights().unwrap());
        assert!(merged.adapter().is_none());
        let tokens = tokens(60, 4, 37);
        let (a, b) = (policy.logits(&tokens).unwrap(), merged.logits(&tokens).unwrap());
        let largest = a.iter().zip(&b).fold(0f32, |largest, (a, b)| largest.max((a - b).abs()));
        assert!(largest < bound, "{dtype:?}: {largest}");
    }
}

/// Sampling and scoring go the same way: behavior and current log-probabilities are one, whatever is beside.
#[test]
fn a_fresh_samples_ratio_is_one() {
    let mut policy = adapted(&small(true), lora(4, &Target::ALL), options(2));
    let requests: Vec<_> = (0..12).map(|i| request(&tokens(5, i % 3, 37), &[], plain(20), i)).collect();
    let completions = sample(&mut policy, &requests);
    let traces: Vec<Trace> = requests
        .iter()
        .zip(&completions)
        .map(|(request, completion)| Trace {
            prompt: request.prompt.to_vec(),
            prefix: Vec::new(),
            completion: completion.clone(),
            sampled_by: policy.version(),
        })
        .collect();
    let traces: Vec<&Trace> = traces.iter().collect();
    for (scores, completion) in policy.score(&traces).unwrap().iter().zip(&completions) {
        for (current, behavior) in scores.current.iter().zip(&completion.behavior) {
            assert!((current - behavior).abs() < 1e-4, "{current}, sampled at {behavior}");
        }
    }
}

#[test]
fn a_learner_of_an_adapter_goes_on_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let base = data("llama-default");
    let open = |seed| {
        let policy = Policy::open(&base, options(2)).unwrap();
        let adapter = Adapter::random(policy.config(), lora(4, &Target::ALL), seed).unwrap();
        policy.with_adapter(adapter).unwrap()
    };
    let mut first = open(1);
    learn(&mut first, 2);
    first.save(dir.path()).unwrap();
    let mut second = open(2);
    second.restore(dir.path()).unwrap();
    assert_eq!(second.adapter(), first.adapter());
    assert_eq!(second.version(), first.version());
    learn(&mut first, 2);
    learn(&mut second, 2);
    assert_eq!(second.adapter(), first.adapter());

    let mut names: Vec<String> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    expect![[r#"
        ["adapter_config.json", "adapter_model.safetensors", "generation_config.json", "optimizer.safetensors", "tokenizer.json", "tokenizer_config.json"]"#]]
    .assert_eq(&format!("{names:?}"));

    // The folder is a policy by itself, since it names its base.
    first.save(dir.path()).unwrap();
    let mut opened = Policy::open(dir.path(), options(1)).unwrap();
    let tokens = tokens(30, 1, 63);
    assert_eq!(opened.logits(&tokens).unwrap(), first.logits(&tokens).unwrap());

    let policy = Policy::open(&base, options(1)).unwrap();
    let other = Adapter::random(policy.config(), lora(5, &Target::ALL), 1).unwrap();
    let error = policy.with_adapter(other).unwrap().restore(dir.path()).unwrap_err().to_string();
    assert!(error.contains("its adapter is Lora { rank: 4") && error.contains("expected Lora { rank: 5"), "{error}");
}

/// Numbers that PEFT computed with an adapter that it made.
#[test]
fn an_adapter_of_peft_gives_pefts_logits() {
    for name in ["lora", "rslora"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adapters").join(name);
        let config = std::fs::read_to_string(dir.join("adapter_config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        let base = config["base_model_name_or_path"].as_str().unwrap().rsplit('/').next().unwrap();
        let mut policy = Policy::open(&data(base), options(1)).unwrap();
        let adapter = Adapter::read(&dir, policy.config()).unwrap();
        policy = policy.with_adapter(adapter).unwrap();
        let bytes = std::fs::read(dir.join("expected.safetensors")).unwrap();
        let read = SafeTensors::deserialize(&bytes).unwrap();
        let numbers = |name: &str| -> Vec<[u8; 4]> { read.tensor(name).unwrap().data().as_chunks().0.to_vec() };
        let tokens: Vec<u32> = numbers("tokens").into_iter().map(u32::from_le_bytes).collect();
        let expected: Vec<f32> = numbers("logits").into_iter().map(f32::from_le_bytes).collect();
        let found = policy.logits(&tokens).unwrap();
        assert_eq!(found.len(), expected.len());
        let far = found.iter().zip(&expected).fold(0f32, |far, (a, b)| far.max((a - b).abs()));
        assert!(far <= 1e-4, "{name}: {far}");
        let without = policy.fork().with_adapter(fresh(&policy)).unwrap().logits(&tokens).unwrap();
        let moved = without.iter().zip(&expected).fold(0f32, |far, (a, b)| far.max((a - b).abs()));
        assert!(moved > 0.1, "{name}: without the adapter the logits are {moved} away");
    }
}

fn fresh(policy: &Policy) -> Adapter {
    Adapter::random(policy.config(), lora(1, &[Target::Up]), 0).unwrap()
}

#[test]
fn what_peft_can_and_we_cannot_is_refused_by_name() {
    let check = |key: &str, value: &str, expected: Expect| {
        let dir = tempfile::tempdir().unwrap();
        let config = small(true);
        Adapter::random(&config, lora(2, &Target::ALL), 1).unwrap().save(dir.path(), None).unwrap();
        let path = dir.path().join("adapter_config.json");
        let mut json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        json[key] = serde_json::from_str(value).unwrap();
        std::fs::write(&path, json.to_string()).unwrap();
        let said = match Adapter::read(dir.path(), &config) {
            Ok(adapter) => format!("{:?}", adapter.lora()),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&said.replace(dir.path().to_str().unwrap(), "DIR"));
    };
    check(
        "use_dora",
        "true",
        expect!["DIR/adapter_config.json: `use_dora` is true, but only null, false or nothing is supported"],
    );
    check(
        "modules_to_save",
        r#"["lm_head"]"#,
        expect![[
            r#"DIR/adapter_config.json: `modules_to_save` is ["lm_head"], but only null, false or nothing is supported"#
        ]],
    );
    check(
        "rank_pattern",
        r#"{"q_proj": 4}"#,
        expect![[
            r#"DIR/adapter_config.json: `rank_pattern` is {"q_proj":4}, but only null, false or nothing is supported"#
        ]],
    );
    check(
        "layers_to_transform",
        "[0]",
        expect!["DIR/adapter_config.json: `layers_to_transform` is [0], but only null, false or nothing is supported"],
    );
    check("bias", r#""all""#, expect![[r#"DIR/adapter_config.json: `bias` is "all", but only "none" is supported"#]]);
    check(
        "peft_type",
        r#""LOHA""#,
        expect![[r#"DIR/adapter_config.json: `peft_type` is "LOHA", but only "LORA" is supported"#]],
    );
    check(
        "task_type",
        r#""SEQ_CLS""#,
        expect![[r#"DIR/adapter_config.json: `task_type` is "SEQ_CLS", but only "CAUSAL_LM" or null is supported"#]],
    );
    check(
        "init_lora_weights",
        r#""pissa""#,
        expect![[
            r#"DIR/adapter_config.json: `init_lora_weights` is "pissa", but only true, false, "gaussian", "eva" or "orthogonal" is supported"#
        ]],
    );
    check(
        "a_key_of_next_year",
        "1",
        expect!["DIR/adapter_config.json: `a_key_of_next_year` is 1, but only null, false or nothing is supported"],
    );
    check(
        "a_key_of_next_year",
        "null",
        expect!["Lora { rank: 2, alpha: 6.0, targets: [Query, Key, Value, Output, Gate, Up, Down], scaling: ByRank }"],
    );
    check(
        "lora_dropout",
        "0.1",
        expect!["Lora { rank: 2, alpha: 6.0, targets: [Query, Key, Value, Output, Gate, Up, Down], scaling: ByRank }"],
    );
    check("r", "0", expect!["the adapter's `rank` is 0, expected at least 1 and at most 65536"]);
    check("r", "-3", expect!["DIR/adapter_config.json: `r` is -3, but only a whole number is supported"]);
    check(
        "r",
        "4",
        expect![
            "DIR/adapter_model.safetensors: `base_model.model.model.layers.0.mlp.down_proj.lora_A.weight` has shape [2, 28], expected [4, 28] by the config"
        ],
    );
    check(
        "lora_alpha",
        r#""many""#,
        expect![[r#"DIR/adapter_config.json: `lora_alpha` is "many", but only a number is supported"#]],
    );
    check(
        "use_rslora",
        "true",
        expect![
            "Lora { rank: 2, alpha: 6.0, targets: [Query, Key, Value, Output, Gate, Up, Down], scaling: ByRootOfRank }"
        ],
    );
    check(
        "target_modules",
        r#""all-linear""#,
        expect!["Lora { rank: 2, alpha: 6.0, targets: [Query, Key, Value, Output, Gate, Up, Down], scaling: ByRank }"],
    );
    check(
        "target_modules",
        r#"".*proj""#,
        expect![[
            r#"DIR/adapter_config.json: `target_modules` is ".*proj", but only "all-linear" or a list of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj is supported"#
        ]],
    );
    check(
        "target_modules",
        r#"["q_proj", "lm_head"]"#,
        expect![[
            r#"DIR/adapter_config.json: `target_modules` is ["q_proj","lm_head"], but only "all-linear" or a list of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj is supported"#
        ]],
    );
    check(
        "target_modules",
        r#"["q_proj"]"#,
        expect![
            "DIR/adapter_model.safetensors has 24 tensors that the config does not ask for, the first is `base_model.model.model.layers.0.mlp.down_proj.lora_A.weight`"
        ],
    );
    check(
        "target_modules",
        r#"["model.layers.0.self_attn.q_proj"]"#,
        expect![
            "DIR/adapter_config.json: `target_modules` is self_attn.q_proj in 1 of 2 layers, but only each matrix in all layers is supported"
        ],
    );
    check("target_modules", "[]", expect!["the adapter's `targets` is [], expected at least one, each once"]);
}

#[test]
fn an_adapter_of_another_shape_is_refused() {
    let mut wide = small(true);
    wide.intermediate_size = 30;
    let check = |lora: Lora, expected: Expect| {
        let said = match Adapter::random(&wide, lora, 0) {
            Ok(adapter) => {
                Policy::random(&small(true), 0, options(1)).unwrap().with_adapter(adapter).unwrap_err().to_string()
            }
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&said);
    };
    check(
        lora(2, &Target::ALL),
        expect![
            "the adapter's `shape` is [2, 30] for `model.layers.0.mlp.down_proj.lora_A.weight`, expected [2, 28] for `model.layers.0.mlp.down_proj.lora_A.weight`"
        ],
    );
    check(lora(0, &Target::ALL), expect!["the adapter's `rank` is 0, expected at least 1 and at most 65536"]);
    check(lora(2, &[]), expect!["the adapter's `targets` is [], expected at least one, each once"]);
    check(
        lora(2, &[Target::Up, Target::Up]),
        expect!["the adapter's `targets` is [Up, Up], expected at least one, each once"],
    );
    check(
        Lora { alpha: f64::NAN, ..lora(2, &Target::ALL) },
        expect!["the adapter's `alpha` is NaN, expected a finite number"],
    );
}

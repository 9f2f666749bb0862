//! What was read is written as it was, and a learner's state to the bit.

use std::collections::BTreeMap;
use std::path::Path;

use expect_test::expect;
use safetensors::{Dtype, SafeTensors};
use toehold_policy::{Policy, Weights};
use toehold_rollout::Learner;

use crate::{all_data, data, options, random, small, tokens, trace};

type Content = (Dtype, Vec<usize>, Vec<u8>);

/// By file and name: format, shape and bytes, of all safetensors files of a folder that are the model's.
fn tensors(dir: &Path) -> BTreeMap<(String, String), Content> {
    let mut all = BTreeMap::new();
    for (file, bytes) in files(dir).into_iter().filter(|(file, _)| file.ends_with(".safetensors")) {
        let read = SafeTensors::deserialize(&bytes).unwrap();
        for (name, view) in read.iter() {
            let content = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
            all.insert((file.clone(), name.to_owned()), content);
        }
    }
    all
}

/// Names and contents, without what transformers computed.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    entries
        .filter(|path| !name(path).starts_with("expected"))
        .map(|path| (name(&path), std::fs::read(&path).unwrap()))
        .collect()
}

#[test]
fn a_saved_folder_is_the_one_that_was_read() {
    for name in all_data() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("saved");
        let policy = Policy::open(&data(&name), options(1)).unwrap();
        policy.save_new_folder(&target).unwrap();
        assert_eq!(tensors(&target), tensors(&data(&name)), "{name}");
        let (mut found, mut expected) = (files(&target), files(&data(&name)));
        // Headers may be spelt in another way; everything else is the same bytes.
        found.retain(|name, _| !name.ends_with(".safetensors"));
        expected.retain(|name, _| !name.ends_with(".safetensors"));
        assert_eq!(found, expected, "{name}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{name}: nothing is left beside it");
        assert_eq!(Policy::open(&target, options(1)).unwrap().weights(), policy.weights(), "{name}");
        let error = policy.save_new_folder(&target).unwrap_err().to_string();
        assert!(error.ends_with("saved: it is there already"), "{error}");
    }
}

fn learn(policy: &mut Policy, steps: u64) {
    for step in 0..steps {
        let trace = trace(&tokens(4, step, 63), &[], &tokens(12, step + 9, 63));
        policy.accumulate(&[&trace], &mut |_, scores| vec![-1.0; scores.current.len()]).unwrap();
        policy.step(1e-3).unwrap();
    }
}

/// A checkpoint of a folder in bf16 is one in bf16, but training goes on with the bits it had.
#[test]
fn a_learner_of_every_format_goes_on_where_it_was() {
    for name in ["llama-default", "qwen3-default", "mistral-yarn"] {
        let dir = tempfile::tempdir().unwrap();
        let mut policy = Policy::open(&data(name), options(1)).unwrap();
        learn(&mut policy, 2);
        policy.save(dir.path()).unwrap();
        let mut again = Policy::open(&data(name), options(1)).unwrap();
        again.restore(dir.path()).unwrap();
        assert_eq!(again.weights(), policy.weights(), "{name}");
        learn(&mut policy, 1);
        learn(&mut again, 1);
        assert_eq!(again.weights(), policy.weights(), "{name}");

        let formats = |dir: &Path| -> Vec<Dtype> {
            let model = tensors(dir).into_iter().filter(|((file, _), _)| file.starts_with("model"));
            model.map(|(_, (format, ..))| format).collect()
        };
        assert_eq!(formats(dir.path()), formats(&data(name)), "{name}");
        let rounded = Policy::open(dir.path(), options(1)).unwrap();
        for (rounded, exact) in rounded.weights().tensors.iter().zip(&again_before(dir.path(), name).tensors) {
            for (&rounded, &exact) in rounded.values.iter().zip(&exact.values) {
                assert!((rounded - exact).abs() <= exact.abs() / 256.0 + 1e-7, "{name}: {rounded}, expected {exact}");
            }
        }
    }
}

/// The weights in f32 that a checkpoint has.
fn again_before(dir: &Path, name: &str) -> Weights {
    let mut policy = Policy::open(&data(name), options(1)).unwrap();
    policy.restore(dir).unwrap();
    policy.weights().clone()
}

#[test]
fn a_number_that_the_format_cannot_hold_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(data("mistral-default")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    // The first number of the file becomes the largest half; a step of the optimizer makes it larger.
    let file = dir.path().join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for number in bytes[start..].chunks_exact_mut(2).take(32) {
        number.copy_from_slice(&0x7bffu16.to_le_bytes());
    }
    std::fs::write(&file, bytes).unwrap();
    let mut policy = Policy::open(dir.path(), options(1)).unwrap();
    let trace = trace(&tokens(4, 1, 63), &[], &tokens(40, 2, 63));
    policy.accumulate(&[&trace], &mut |_, scores| vec![-1.0; scores.current.len()]).unwrap();
    policy.step(1e3).unwrap();
    let target = tempfile::tempdir().unwrap();
    let error = policy.save_folder(target.path()).unwrap_err().to_string();
    let error = error.replace(target.path().to_str().unwrap(), "DIR");
    expect!["cannot write DIR/model.safetensors: `model.embed_tokens.weight` has 6.638713e4, which F16 cannot hold"]
        .assert_eq(&error);
    assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 0);
}

#[test]
fn a_random_policy_of_every_family_is_written_and_read() {
    use toehold_policy::{Biases, Family, RopeScaling};
    let yarn = RopeScaling::Yarn {
        factor: 4.0,
        attention_factor: 1.2,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: true,
        original_max_position_embeddings: 50,
    };
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 25,
    };
    let none = Biases::default();
    let attention = Biases { query_key_value: true, output: true, ..none };
    let all = Biases { feed_forward: true, ..attention };
    let cases = [
        (Family::Llama, all, llama3),
        (Family::Llama, none, RopeScaling::Linear { factor: 2.0 }),
        (Family::Mistral, none, yarn),
        (Family::Qwen2, Biases { query_key_value: true, ..none }, yarn),
        (Family::Qwen3, attention, RopeScaling::Default),
    ];
    for (family, biases, rope_scaling) in cases {
        let mut config = small(false);
        (config.family, config.biases, config.rope_scaling) = (family, biases, rope_scaling);
        let dir = tempfile::tempdir().unwrap();
        let policy = random(&config, 1);
        policy.save_folder(dir.path()).unwrap();
        let again = Policy::open(dir.path(), options(1)).unwrap();
        assert_eq!(again.config(), policy.config());
        assert_eq!(again.weights(), policy.weights());
    }
    // What a family cannot have is refused before there are weights.
    let mut config = small(false);
    (config.family, config.biases) = (Family::Mistral, all);
    let error = Policy::random(&config, 1, options(1)).unwrap_err().to_string();
    expect!["the model's `query_key_value` is true, expected false for mistral"].assert_eq(&error);
}

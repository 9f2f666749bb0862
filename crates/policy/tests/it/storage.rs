//! Weights that stay in their files give the same bits as weights in memory.

use expect_test::expect;
use toehold_policy::{Adapter, Dtype, Implementation, Lora, Policy, PolicyOptions, Scaling, Storage, Target};
use toehold_rollout::{Learner, Sampler};

use crate::{all_data, data, options, tokens, trace};

fn learn(policy: &mut Policy) {
    let trace = trace(&tokens(4, 1, 63), &[], &tokens(12, 2, 63));
    policy.accumulate(&[&trace], &mut |_, scores| vec![-1.0; scores.current.len()]).unwrap();
    policy.step(1e-3).unwrap();
    policy.publish().unwrap();
}

/// Two policies of a folder: weights in memory, and in files.
fn both(name: &str, dtype: Dtype) -> [Policy; 2] {
    [Storage::Memory, Storage::Files]
        .map(|storage| Policy::open(&data(name), PolicyOptions { storage, dtype, ..options(2) }).unwrap())
}

#[test]
fn files_and_memory_hold_the_same_model() {
    for name in all_data() {
        let [mut memory, mut files] = both(&name, Dtype::F32);
        assert_eq!(memory.version(), files.version(), "{name}");
        assert_eq!(memory.parameter_count(), files.parameter_count());
        let tokens = tokens(20, 3, 63);
        assert_eq!(memory.logits(&tokens).unwrap(), files.logits(&tokens).unwrap(), "{name}");
        assert_eq!(memory.merged_weights().unwrap(), files.merged_weights().unwrap(), "{name}");
    }
}

#[test]
fn a_learner_goes_the_same_way_from_files() {
    for (name, dtype) in [("llama-linear", Dtype::F32), ("qwen3-default", Dtype::Bf16)] {
        let [mut memory, mut files] = both(name, dtype);
        let untouched = files.fork();
        for _ in 0..2 {
            learn(&mut memory);
            learn(&mut files);
        }
        assert_eq!(memory.weights(), files.weights(), "{name}");
        assert_eq!(memory.version(), files.version());
        assert_eq!(untouched.version(), both(name, dtype)[1].version(), "the base is as it was");
    }
}

#[test]
fn an_adapter_learns_beside_files() {
    for implementation in [Implementation::Host, Implementation::Graph] {
        let [memory, files] = [Storage::Memory, Storage::Files].map(|storage| {
            let options = PolicyOptions { storage, implementation, ..options(2) };
            let policy = Policy::open(&data("qwen2-linear"), options).unwrap();
            let lora = Lora { rank: 2, alpha: 2.0, targets: Target::ALL.to_vec(), scaling: Scaling::ByRank };
            let adapter = Adapter::random(policy.config(), lora, 1).unwrap();
            let mut policy = policy.with_adapter(adapter).unwrap();
            learn(&mut policy);
            learn(&mut policy);
            policy
        });
        assert_eq!(memory.adapter(), files.adapter());
        assert_eq!(memory.version(), files.version());
        assert_eq!(memory.merged_weights().unwrap(), files.merged_weights().unwrap());
    }
}

/// What was opened must not turn into something else while it is in use.
#[test]
fn files_that_change_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(data("llama-default")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let mut policy = Policy::open(dir.path(), PolicyOptions { storage: Storage::Files, ..options(1) }).unwrap();
    let file = dir.path().join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let version = policy.version();
    bytes.extend([0; 4]);
    std::fs::write(&file, bytes).unwrap();
    let trace = trace(&tokens(4, 1, 63), &[], &tokens(12, 2, 63));
    let error = policy.accumulate(&[&trace], &mut |_, scores| vec![-1.0; scores.current.len()]).unwrap_err();
    let said = |error: String| error.replace(dir.path().to_str().unwrap(), "DIR");
    expect!["learning failed: DIR/model.safetensors has changed since it was opened"]
        .assert_eq(&said(error.to_string()));
    let out = dir.path().join("out");
    let error = policy.save_new_folder(&out).unwrap_err().to_string();
    assert!(said(error).ends_with("DIR/model.safetensors has changed since it was opened"));
    assert!(!out.exists());
    assert_eq!(policy.version(), version);
    assert!(policy.logits(&[1, 2, 3]).is_ok(), "what is packed goes on");
}

#[test]
fn a_number_that_is_none_is_found_before_anything_is_computed() {
    for storage in [Storage::Memory, Storage::Files] {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(data("llama-default")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        let file = dir.path().join("model.safetensors");
        let mut bytes = std::fs::read(&file).unwrap();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(&file, bytes).unwrap();
        let error = Policy::open(dir.path(), PolicyOptions { storage, ..options(1) }).unwrap_err().to_string();
        assert!(error.contains("is NaN, expected a finite one"), "{error}");
    }
}

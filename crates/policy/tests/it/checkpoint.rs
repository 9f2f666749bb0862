//! Folders in and out, and what is said about broken ones.

use std::path::Path;

use expect_test::{Expect, expect};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use toehold_policy::{Policy, Weights};

use crate::{fixture, options, random, small};

type Stored = (String, Vec<usize>, Vec<u8>);

/// Writes f32 tensors as a file of their own, without the crate's writer.
pub(crate) fn write(path: &Path, tensors: impl Iterator<Item = Stored>) {
    let tensors: Vec<Stored> = tensors.collect();
    let views: Vec<_> = tensors
        .iter()
        .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()))
        .collect();
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn stored(weights: &Weights) -> Vec<Stored> {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
    weights.tensors.iter().map(|t| (t.name.clone(), t.shape.clone(), bytes(&t.values))).collect()
}

#[test]
fn a_folder_is_written_and_read_to_the_same_bits() {
    for tied in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let policy = random(&small(tied), 1);
        policy.save_folder(dir.path()).unwrap();
        let again = Policy::open(dir.path(), options(1)).unwrap();
        assert_eq!(again.weights(), policy.weights());
        assert_eq!(again.config(), policy.config());
        let mut names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["config.json", "generation_config.json", "model.safetensors"]);
    }
}

#[test]
fn random_weights_and_their_version_are_the_same_everywhere() {
    expect!["f40d76a8985c5afd"].assert_eq(&random(&small(true), 1).weights().version().to_string());
    let fixture = Policy::open(&fixture("qwen3-tied"), options(1)).unwrap();
    expect!["df1a8f46ee2c7047"].assert_eq(&fixture.weights().version().to_string());
}

#[test]
fn shards_and_half_precision_are_read() {
    let whole = random(&small(false), 1);
    let dir = tempfile::tempdir().unwrap();
    whole.save_folder(dir.path()).unwrap();
    std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    let tensors = stored(whole.weights());
    let file = |i: usize| format!("model-{:05}-of-00003.safetensors", i % 3 + 1);
    for shard in 0..3 {
        let own = tensors.iter().enumerate().filter(|(i, _)| i % 3 == shard).map(|(_, t)| t.clone());
        write(&dir.path().join(file(shard)), own);
    }
    let map: serde_json::Map<_, _> =
        tensors.iter().enumerate().map(|(i, (name, ..))| (name.clone(), file(i).into())).collect();
    let index = serde_json::json!({ "metadata": {}, "weight_map": map }).to_string();
    std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    assert_eq!(Policy::open(dir.path(), options(1)).unwrap().weights(), whole.weights());

    // Every half: through a file in f16, the values must be the exact ones.
    let half = |bits: u16| {
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
        let size =
            if exponent == 0 { fraction * 2f64.powi(-24) } else { (1024.0 + fraction) * 2f64.powi(exponent - 25) };
        if bits >> 15 == 1 { -size } else { size }
    };
    let bits: Vec<u16> = (0..=u16::MAX).filter(|bits| bits >> 10 & 31 != 31).collect();
    let mut next = bits.iter().cycle();
    let halves: Vec<(String, Vec<usize>, Vec<u16>)> = (whole.weights().tensors.iter())
        .map(|t| (t.name.clone(), t.shape.clone(), t.values.iter().map(|_| *next.next().unwrap()).collect()))
        .collect();
    let bytes: Vec<Vec<u8>> =
        halves.iter().map(|(.., bits)| bits.iter().flat_map(|bits| bits.to_le_bytes()).collect()).collect();
    let views: Vec<_> = halves
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| (name, TensorView::new(Dtype::F16, shape.clone(), bytes).unwrap()))
        .collect();
    std::fs::write(dir.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let read = Policy::open(dir.path(), options(1)).unwrap();
    for (tensor, (_, _, bits)) in read.weights().tensors.iter().zip(&halves) {
        for (&value, &bits) in tensor.values.iter().zip(bits) {
            assert_eq!(f64::from(value), half(bits), "{bits:#06x}");
        }
    }
}

/// The bare model, as transformers' `AutoModel` saves it: read as it is, and written under its own names.
#[test]
fn names_without_their_beginning_are_read_and_kept() {
    for tied in [true, false] {
        let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let policy = random(&small(tied), 1);
        policy.save_folder(dir.path()).unwrap();
        let bare = stored(policy.weights())
            .into_iter()
            .map(|(name, shape, bytes)| (name.strip_prefix("model.").unwrap_or(&name).to_owned(), shape, bytes));
        write(&dir.path().join("model.safetensors"), bare);
        let read = Policy::open(dir.path(), options(1)).unwrap();
        assert_eq!(read.weights(), policy.weights());
        read.save_folder(out.path()).unwrap();
        let names = |dir: &Path| -> Vec<String> {
            let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
            let mut names: Vec<String> =
                SafeTensors::deserialize(&bytes).unwrap().names().into_iter().map(str::to_owned).collect();
            names.sort();
            names
        };
        assert_eq!(names(out.path()), names(dir.path()));
        assert!(names(out.path()).contains(&"layers.0.self_attn.q_proj.weight".to_owned()));
    }
}

/// Opens a folder after `damage` and compares the complaint.
#[track_caller]
fn check(damage: impl Fn(&Path, Vec<Stored>), expected: Expect) {
    let dir = tempfile::tempdir().unwrap();
    let policy = random(&small(true), 1);
    policy.save_folder(dir.path()).unwrap();
    damage(dir.path(), stored(policy.weights()));
    let error = Policy::open(dir.path(), options(1)).unwrap_err().to_string();
    expected.assert_eq(&error.replace(dir.path().to_str().unwrap(), "DIR"));
}

#[test]
fn a_broken_folder_is_told_what_is_wrong_with_it() {
    let weights = |dir: &Path| dir.join("model.safetensors");
    check(
        |dir, _| std::fs::remove_file(dir.join("config.json")).unwrap(),
        expect!["cannot read DIR/config.json: No such file or directory (os error 2)"],
    );
    check(
        |dir, _| std::fs::remove_file(weights(dir)).unwrap(),
        expect!["DIR has neither model.safetensors nor model.safetensors.index.json"],
    );
    check(
        |dir, _| {
            let bytes = std::fs::read(weights(dir)).unwrap();
            std::fs::write(weights(dir), &bytes[..bytes.len() - 100]).unwrap();
        },
        expect![[r#"
            DIR/model.safetensors has 30716 bytes and is not a whole safetensors file: its header describes 30816 bytes
            hint: it may have been cut off while it was written or fetched"#]],
    );
    check(
        |dir, _| std::fs::write(weights(dir), "").unwrap(),
        expect![[r#"
            DIR/model.safetensors has 0 bytes and is not a whole safetensors file: it is too short for a header
            hint: it may have been cut off while it was written or fetched"#]],
    );
    check(
        |dir, tensors| write(&weights(dir), tensors.into_iter().skip(2)),
        expect!["DIR/model.safetensors lacks 2 of 24 tensors, the first is `model.embed_tokens.weight`"],
    );
    check(
        |dir, tensors| {
            let extra = ("model.layers.2.input_layernorm.weight".to_owned(), vec![1], vec![0; 4]);
            write(&weights(dir), tensors.into_iter().chain([extra]));
        },
        expect![
            "DIR/model.safetensors has 1 tensors that the config does not ask for, the first is `model.layers.2.input_layernorm.weight`"
        ],
    );
    check(
        |dir, mut tensors| {
            tensors[1].1.push(1);
            write(&weights(dir), tensors.into_iter());
        },
        expect![
            "DIR/model.safetensors: `model.layers.0.input_layernorm.weight` has shape [20, 1], expected [20] by the config"
        ],
    );
    check(
        |dir, tensors| {
            let head = ("lm_head.weight".to_owned(), tensors[0].1.clone(), vec![0; tensors[0].2.len()]);
            write(&weights(dir), tensors.into_iter().chain([head]));
        },
        expect![[r#"
            DIR/model.safetensors: `lm_head.weight` differs from `model.embed_tokens.weight`, but the config ties them
            hint: set "tie_word_embeddings" to false"#]],
    );
    check(
        |dir, tensors| {
            let mut bytes = std::fs::read(weights(dir)).unwrap();
            let at = bytes.windows(3).position(|window| window == b"F32").unwrap();
            bytes[at] = b'I';
            std::fs::write(weights(dir), bytes).unwrap();
            drop(tensors);
        },
        expect!["DIR/model.safetensors: `model.embed_tokens.weight` is stored as I32, expected F32, BF16 or F16"],
    );
    let index = |text: &'static str| {
        move |dir: &Path, _: Vec<Stored>| {
            std::fs::remove_file(weights(dir)).unwrap();
            std::fs::write(dir.join("model.safetensors.index.json"), text).unwrap();
        }
    };
    check(
        index("{}"),
        expect![
            "DIR/model.safetensors.index.json is not an index of the files beside it: it has no object `weight_map`"
        ],
    );
    check(
        index(r#"{"weight_map": {"a": "../elsewhere.safetensors"}}"#),
        expect![[
            r#"DIR/model.safetensors.index.json is not an index of the files beside it: the file of `a` is "../elsewhere.safetensors""#
        ]],
    );
    check(
        index(r#"{"weight_map": {"a": "model-1.safetensors"}}"#),
        expect!["cannot read DIR/model-1.safetensors: No such file or directory (os error 2)"],
    );
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    for (bits, name) in [(f32::NAN, "a number"), (f32::INFINITY, "infinity"), (f32::NEG_INFINITY, "minus infinity")] {
        let dir = tempfile::tempdir().unwrap();
        let policy = random(&small(true), 1);
        policy.save_folder(dir.path()).unwrap();
        let mut tensors = stored(policy.weights());
        tensors[3].2[40..44].copy_from_slice(&bits.to_le_bytes());
        write(&dir.path().join("model.safetensors"), tensors.into_iter());
        let error = Policy::open(dir.path(), options(1)).unwrap_err().to_string();
        let expected = format!("number 10 of `model.layers.0.mlp.gate_proj.weight` is {bits}, expected a finite one");
        assert!(error.ends_with(&expected), "{name}: {error}");
    }
}

#[test]
fn a_pickle_is_refused_with_the_way_to_convert_it() {
    let weights = |dir: &Path| dir.join("model.safetensors");
    check(
        |dir, _| std::fs::rename(weights(dir), dir.join("pytorch_model.bin")).unwrap(),
        expect![[r#"
        DIR has its weights only as pytorch_model.bin, a pickle, which can run any program when it is read
        hint: where you trust it, convert it: python -c 'import transformers as t; t.AutoModelForCausalLM.from_pretrained("DIR", dtype="auto").save_pretrained("NEW")'"#]],
    );
    check(
        |dir, _| {
            std::fs::remove_file(weights(dir)).unwrap();
            for name in ["pytorch_model-00002-of-00002.bin", "pytorch_model-00001-of-00002.bin", "optimizer.pt"] {
                std::fs::write(dir.join(name), "").unwrap();
            }
        },
        expect![[r#"
            DIR has its weights only as pytorch_model-00001-of-00002.bin, a pickle, which can run any program when it is read
            hint: where you trust it, convert it: python -c 'import transformers as t; t.AutoModelForCausalLM.from_pretrained("DIR", dtype="auto").save_pretrained("NEW")'"#]],
    );
}

/// Copies a folder of several files, damages it, and compares the complaint.
#[track_caller]
fn check_shards(damage: impl Fn(&Path), expected: Expect) {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(crate::data("qwen3-llama3")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    damage(dir.path());
    let error = Policy::open(dir.path(), options(1)).unwrap_err().to_string();
    expected.assert_eq(&error.replace(dir.path().to_str().unwrap(), "DIR"));
}

#[test]
fn a_wrong_index_is_told_what_is_wrong_with_it() {
    const INDEX: &str = "model.safetensors.index.json";
    const FIRST: &str = "model-00001-of-00003.safetensors";
    let edit = |from: &'static str, to: &'static str| {
        move |dir: &Path| {
            let text = std::fs::read_to_string(dir.join(INDEX)).unwrap();
            assert!(text.contains(from), "{text}");
            std::fs::write(dir.join(INDEX), text.replacen(from, to, 1)).unwrap();
        }
    };
    let norm = "\"model.norm.weight\": \"model-00003-of-00003.safetensors\"";
    check_shards(
        edit(norm, "\"model.norm.weight\": \"model-00001-of-00003.safetensors\""),
        expect![
            "DIR/model.safetensors.index.json is not an index of the files beside it: `model.norm.weight` is in model-00003-of-00003.safetensors, not in model-00001-of-00003.safetensors"
        ],
    );
    check_shards(
        edit("model.norm.weight", "model.norm.weights"),
        expect![
            "DIR/model.safetensors.index.json is not an index of the files beside it: it does not know `model.norm.weight` in model-00003-of-00003.safetensors"
        ],
    );
    check_shards(
        edit(
            norm,
            "\"more\": \"model-00001-of-00003.safetensors\", \"model.norm.weight\": \"model-00003-of-00003.safetensors\"",
        ),
        expect![
            "DIR/model.safetensors.index.json is not an index of the files beside it: `more` is not in model-00001-of-00003.safetensors"
        ],
    );
    check_shards(
        edit(norm, "\"model.norm.weight\": \"model-00004-of-00003.safetensors\""),
        expect!["cannot read DIR/model-00004-of-00003.safetensors: No such file or directory (os error 2)"],
    );
    check_shards(
        edit(norm, "\"model.norm.weight\": \"/etc/passwd\""),
        expect![[
            r#"DIR/model.safetensors.index.json is not an index of the files beside it: the file of `model.norm.weight` is "/etc/passwd""#
        ]],
    );
    check_shards(
        edit(norm, "\"model.norm.weight\": 3"),
        expect![
            "DIR/model.safetensors.index.json is not an index of the files beside it: the file of `model.norm.weight` is no name"
        ],
    );
    check_shards(
        edit("{", "["),
        expect![
            "DIR/model.safetensors.index.json is not an index of the files beside it: expected `,` or `]` at line 2 column 13"
        ],
    );
    check_shards(
        |dir| std::fs::remove_file(dir.join(FIRST)).unwrap(),
        expect!["cannot read DIR/model-00001-of-00003.safetensors: No such file or directory (os error 2)"],
    );
    check_shards(
        |dir| {
            std::fs::copy(dir.join("model-00002-of-00003.safetensors"), dir.join(FIRST)).unwrap();
        },
        expect![
            "DIR/model.safetensors.index.json is not an index of the files beside it: `model.layers.0.input_layernorm.weight` is in model-00001-of-00003.safetensors, not in model-00002-of-00003.safetensors"
        ],
    );
    check_shards(
        |dir| {
            let bytes = std::fs::read(dir.join(FIRST)).unwrap();
            std::fs::write(dir.join(FIRST), &bytes[..bytes.len() - 1]).unwrap();
        },
        expect![[r#"
            DIR/model-00001-of-00003.safetensors has 24311 bytes and is not a whole safetensors file: its header describes 24312 bytes
            hint: it may have been cut off while it was written or fetched"#]],
    );
}

#[test]
fn a_config_that_contradicts_the_weights_is_refused() {
    let edit = |from: &'static str, to: &'static str| {
        move |dir: &Path| {
            let text = std::fs::read_to_string(dir.join("config.json")).unwrap();
            assert!(text.contains(from), "{text}");
            std::fs::write(dir.join("config.json"), text.replace(from, to)).unwrap();
        }
    };
    check_shards(
        edit("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
        expect![
            "DIR/model.safetensors.index.json lacks 11 of 35 tensors, the first is `model.layers.2.input_layernorm.weight`"
        ],
    );
    check_shards(
        edit("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1"),
        expect![
            "DIR/model.safetensors.index.json has 11 tensors that the config does not ask for, the first is `model.layers.1.input_layernorm.weight`"
        ],
    );
    check_shards(
        edit("\"vocab_size\": 63", "\"vocab_size\": 64"),
        expect![
            "DIR/model-00001-of-00003.safetensors: `model.embed_tokens.weight` has shape [63, 32], expected [64, 32] by the config"
        ],
    );
    check_shards(
        edit("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false"),
        expect!["DIR/model.safetensors.index.json lacks 1 of 25 tensors, the first is `lm_head.weight`"],
    );
    check_shards(
        edit("\"attention_bias\": false", "\"attention_bias\": true"),
        expect![
            "DIR/model.safetensors.index.json lacks 8 of 32 tensors, the first is `model.layers.0.self_attn.k_proj.bias`"
        ],
    );
    check_shards(
        edit("\"model_type\": \"qwen3\"", "\"model_type\": \"llama\""),
        expect![
            "DIR/model.safetensors.index.json has 4 tensors that the config does not ask for, the first is `model.layers.0.self_attn.k_norm.weight`"
        ],
    );
    check_shards(
        edit("\"model_type\": \"qwen3\"", "\"model_type\": \"qwen2\""),
        expect![
            "DIR/model.safetensors.index.json lacks 6 of 26 tensors, the first is `model.layers.0.self_attn.k_proj.bias`"
        ],
    );
    check_shards(
        edit("\"head_dim\": 20", "\"head_dim\": 18"),
        expect![
            "DIR/model-00001-of-00003.safetensors: `model.layers.0.self_attn.k_norm.weight` has shape [20], expected [18] by the config"
        ],
    );
}

/// Headers of strangers: any byte changed, any length. None may panic, take more memory than the file has
/// bytes, or be read as something else than it says.
#[test]
fn no_header_panics() {
    let dir = tempfile::tempdir().unwrap();
    let policy = random(&small(true), 1);
    policy.save_folder(dir.path()).unwrap();
    let path = dir.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut read = 0;
    for round in 0..600u64 {
        let mut bytes = whole.clone();
        for number in crate::numbers(1 + (round % 3) as usize, round) {
            let at = (number >> 8) as usize % header;
            bytes[at] = if round % 2 == 0 { number as u8 } else { b"0123456789[]{},:\"F"[number as usize % 18] };
        }
        if round % 7 == 0 {
            bytes.truncate((round * 37) as usize % bytes.len());
        }
        std::fs::write(&path, bytes).unwrap();
        read += u64::from(Policy::read_weights(dir.path()).is_ok());
    }
    assert!(read < 60, "{read} of 600 damaged files were read");
    for length in [0, 1, u64::MAX, 1 << 40, whole.len() as u64, whole.len() as u64 - 8] {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        Policy::read_weights(dir.path()).unwrap_err();
    }
}

/// Some writers store the tied matrix twice, and old ones the rotary frequencies: both are written again.
#[test]
fn what_is_not_needed_is_carried() {
    let dir = tempfile::tempdir().unwrap();
    let policy = random(&small(true), 1);
    policy.save_folder(dir.path()).unwrap();
    let mut tensors = stored(policy.weights());
    tensors.push(("lm_head.weight".to_owned(), tensors[0].1.clone(), tensors[0].2.clone()));
    tensors.push(("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), vec![3], vec![7; 12]));
    write(&dir.path().join("model.safetensors"), tensors.into_iter());
    let read = Policy::open(dir.path(), options(1)).unwrap();
    assert_eq!(read.weights(), policy.weights());
    let target = tempfile::tempdir().unwrap();
    read.save_folder(target.path()).unwrap();
    let content = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
    let (found, expected) = (content(target.path()), content(dir.path()));
    let (found, expected) = (SafeTensors::deserialize(&found).unwrap(), SafeTensors::deserialize(&expected).unwrap());
    assert_eq!(found.len(), expected.len());
    for (name, view) in expected.iter() {
        assert_eq!(found.tensor(name).unwrap().data(), view.data(), "{name}");
    }
}

#[test]
fn what_was_written_is_a_plain_safetensors_file() {
    let dir = tempfile::tempdir().unwrap();
    random(&small(true), 1).save_folder(dir.path()).unwrap();
    let bytes = std::fs::read(dir.path().join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut lines: Vec<String> =
        file.iter().map(|(name, view)| format!("{name} {} {:?}\n", view.dtype(), view.shape())).collect();
    lines.sort();
    expect![[r#"
        model.embed_tokens.weight F32 [37, 20]
        model.layers.0.input_layernorm.weight F32 [20]
        model.layers.0.mlp.down_proj.weight F32 [20, 28]
        model.layers.0.mlp.gate_proj.weight F32 [28, 20]
        model.layers.0.mlp.up_proj.weight F32 [28, 20]
        model.layers.0.post_attention_layernorm.weight F32 [20]
        model.layers.0.self_attn.k_norm.weight F32 [6]
        model.layers.0.self_attn.k_proj.weight F32 [12, 20]
        model.layers.0.self_attn.o_proj.weight F32 [20, 24]
        model.layers.0.self_attn.q_norm.weight F32 [6]
        model.layers.0.self_attn.q_proj.weight F32 [24, 20]
        model.layers.0.self_attn.v_proj.weight F32 [12, 20]
        model.layers.1.input_layernorm.weight F32 [20]
        model.layers.1.mlp.down_proj.weight F32 [20, 28]
        model.layers.1.mlp.gate_proj.weight F32 [28, 20]
        model.layers.1.mlp.up_proj.weight F32 [28, 20]
        model.layers.1.post_attention_layernorm.weight F32 [20]
        model.layers.1.self_attn.k_norm.weight F32 [6]
        model.layers.1.self_attn.k_proj.weight F32 [12, 20]
        model.layers.1.self_attn.o_proj.weight F32 [20, 24]
        model.layers.1.self_attn.q_norm.weight F32 [6]
        model.layers.1.self_attn.q_proj.weight F32 [24, 20]
        model.layers.1.self_attn.v_proj.weight F32 [12, 20]
        model.norm.weight F32 [20]
    "#]]
    .assert_eq(&lines.concat());
}

//! `config.json` in and out.

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use toehold_policy::ModelConfig;

use crate::{fixture, small};

fn base() -> Value {
    json!({
        "model_type": "qwen3", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "max_position_embeddings": 128, "rope_theta": 1e6, "rms_norm_eps": 1e-6, "rope_scaling": null,
        "tie_word_embeddings": true, "eos_token_id": [1, 2],
    })
}

/// The config with some keys replaced, or the complaint.
#[track_caller]
fn check(changes: Value, expected: Expect) {
    let mut value = base();
    for (key, change) in changes.as_object().unwrap() {
        value[key] = change.clone();
    }
    let found = match ModelConfig::parse(&value.to_string(), "config.json".as_ref()) {
        Ok(config) => serde_json::to_string(&config).unwrap(),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&found);
}

#[test]
fn a_config_is_read_or_refused_by_name() {
    check(
        json!({}),
        expect![[
            r#"{"family":"qwen3","vocab_size":100,"hidden_size":32,"intermediate_size":64,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,"max_position_embeddings":128,"rope_theta":1000000.0,"rope_scaling":{"rope_type":"default"},"rms_norm_eps":1e-6,"tie_word_embeddings":true,"biases":{"query_key_value":false,"output":false,"feed_forward":false},"initializer_range":0.02,"eos_token_id":[1,2],"bos_token_id":null,"pad_token_id":null}"#
        ]],
    );
    check(
        json!({"head_dim": null, "num_key_value_heads": null, "eos_token_id": 7}),
        expect![[
            r#"{"family":"qwen3","vocab_size":100,"hidden_size":32,"intermediate_size":64,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":4,"head_dim":8,"max_position_embeddings":128,"rope_theta":1000000.0,"rope_scaling":{"rope_type":"default"},"rms_norm_eps":1e-6,"tie_word_embeddings":true,"biases":{"query_key_value":false,"output":false,"feed_forward":false},"initializer_range":0.02,"eos_token_id":[7],"bos_token_id":null,"pad_token_id":null}"#
        ]],
    );
    check(
        json!({"rope_theta": null, "rope_parameters": {"rope_type": "default", "rope_theta": 5.0}}),
        expect![[
            r#"{"family":"qwen3","vocab_size":100,"hidden_size":32,"intermediate_size":64,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,"max_position_embeddings":128,"rope_theta":5.0,"rope_scaling":{"rope_type":"default"},"rms_norm_eps":1e-6,"tie_word_embeddings":true,"biases":{"query_key_value":false,"output":false,"feed_forward":false},"initializer_range":0.02,"eos_token_id":[1,2],"bos_token_id":null,"pad_token_id":null}"#
        ]],
    );
    check(
        json!({"model_type": null}),
        expect![[
            r#"config.json: `model_type` is missing, but only "llama", "mistral", "qwen2" or "qwen3" is supported"#
        ]],
    );
    check(
        json!({"layer_types": ["full_attention", "sliding_attention"]}),
        expect![[
            r#"config.json: `layer_types` is ["full_attention","sliding_attention"], but only "full_attention" in every layer is supported"#
        ]],
    );
    check(
        json!({"hidden_act": "gelu"}),
        expect![[r#"config.json: `hidden_act` is "gelu", but only "silu" is supported"#]],
    );
    check(
        json!({"quantization_config": {"quant_method": "fp8"}}),
        expect![[
            r#"config.json: `quantization_config` is {"quant_method":"fp8"}, but only a folder without it is supported"#
        ]],
    );
    check(json!({"vocab_size": null}), expect!["config.json: `vocab_size` is missing, expected a count"]);
    check(json!({"hidden_size": "wide"}), expect![[r#"config.json: `hidden_size` is "wide", expected a count"#]]);
    check(json!({"num_hidden_layers": 0}), expect!["the model's `num_hidden_layers` is 0, expected at least 1"]);
    check(
        json!({"num_key_value_heads": 3}),
        expect!["the model's `num_attention_heads` is 4, expected a multiple of `num_key_value_heads` = 3"],
    );
    check(json!({"head_dim": 7}), expect!["the model's `head_dim` is 7, expected an even number (rotary pairs)"]);
    check(json!({"rms_norm_eps": -1.0}), expect!["the model's `rms_norm_eps` is -1, expected above 0"]);
    check(
        json!({"eos_token_id": "x"}),
        expect![[r#"config.json: `eos_token_id` is "x", expected a token or a list of tokens"#]],
    );
}

/// As [`check`], of what families differ in alone.
#[track_caller]
fn check_family(changes: Value, expected: Expect) {
    let mut value = base();
    for (key, change) in changes.as_object().unwrap() {
        value[key] = change.clone();
    }
    let found = match ModelConfig::parse(&value.to_string(), "config.json".as_ref()) {
        Ok(config) => format!(
            "{:?}, positions {}, base {}, {}, {}",
            config.family,
            config.max_position_embeddings,
            config.rope_theta,
            serde_json::to_string(&config.rope_scaling).unwrap(),
            serde_json::to_string(&config.biases).unwrap(),
        ),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&found);
}

#[test]
fn families_differ_in_biases_and_windows() {
    check_family(
        json!({"model_type": "llama"}),
        expect![[
            r#"Llama, positions 128, base 1000000, {"rope_type":"default"}, {"query_key_value":false,"output":false,"feed_forward":false}"#
        ]],
    );
    check_family(
        json!({"model_type": "llama", "attention_bias": true}),
        expect![[
            r#"Llama, positions 128, base 1000000, {"rope_type":"default"}, {"query_key_value":true,"output":true,"feed_forward":false}"#
        ]],
    );
    check_family(
        json!({"model_type": "llama", "mlp_bias": true}),
        expect![[
            r#"Llama, positions 128, base 1000000, {"rope_type":"default"}, {"query_key_value":false,"output":false,"feed_forward":true}"#
        ]],
    );
    check_family(
        json!({"model_type": "mistral", "sliding_window": null}),
        expect![[
            r#"Mistral, positions 128, base 1000000, {"rope_type":"default"}, {"query_key_value":false,"output":false,"feed_forward":false}"#
        ]],
    );
    check_family(
        json!({"model_type": "mistral", "sliding_window": 64}),
        expect!["config.json: `sliding_window` is 64, but only null (no sliding window) is supported"],
    );
    check_family(
        json!({"model_type": "mistral", "sliding_window": 128}),
        expect![[
            r#"Mistral, positions 128, base 1000000, {"rope_type":"default"}, {"query_key_value":false,"output":false,"feed_forward":false}"#
        ]],
    );
    // transformers takes an absent window for one of 4096.
    check_family(
        json!({"model_type": "mistral"}),
        expect![[
            r#"Mistral, positions 128, base 1000000, {"rope_type":"default"}, {"query_key_value":false,"output":false,"feed_forward":false}"#
        ]],
    );
    check_family(
        json!({"model_type": "mistral", "max_position_embeddings": 8192}),
        expect!["config.json: `sliding_window` is missing, but only null (no sliding window) is supported"],
    );
    check_family(
        json!({"model_type": "qwen2"}),
        expect![[
            r#"Qwen2, positions 128, base 1000000, {"rope_type":"default"}, {"query_key_value":true,"output":false,"feed_forward":false}"#
        ]],
    );
    check_family(
        json!({"model_type": "qwen2", "use_sliding_window": true, "max_window_layers": 1}),
        expect!["config.json: `use_sliding_window` is true, but only false is supported"],
    );
    check_family(
        json!({"model_type": "qwen2", "use_sliding_window": true, "max_window_layers": 2}),
        expect![[
            r#"Qwen2, positions 128, base 1000000, {"rope_type":"default"}, {"query_key_value":true,"output":false,"feed_forward":false}"#
        ]],
    );
    check_family(
        json!({"model_type": "qwen2", "use_sliding_window": false, "sliding_window": 64}),
        expect![[
            r#"Qwen2, positions 128, base 1000000, {"rope_type":"default"}, {"query_key_value":true,"output":false,"feed_forward":false}"#
        ]],
    );
    check_family(
        json!({"attention_bias": true}),
        expect![[
            r#"Qwen3, positions 128, base 1000000, {"rope_type":"default"}, {"query_key_value":true,"output":true,"feed_forward":false}"#
        ]],
    );
    check_family(
        json!({"use_sliding_window": true, "max_window_layers": 0}),
        expect!["config.json: `use_sliding_window` is true, but only false is supported"],
    );
}

#[test]
fn rotary_scalings_are_read_in_old_and_new_keys_or_refused() {
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64});
    check_family(
        json!({"rope_scaling": llama3}),
        expect![[
            r#"Qwen3, positions 128, base 1000000, {"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":64}, {"query_key_value":false,"output":false,"feed_forward":false}"#
        ]],
    );
    check_family(
        json!({"rope_scaling": {"type": "linear", "factor": 2}}),
        expect![[
            r#"Qwen3, positions 128, base 1000000, {"rope_type":"linear","factor":2.0}, {"query_key_value":false,"output":false,"feed_forward":false}"#
        ]],
    );
    check_family(
        json!({"rope_theta": null, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 7.5}}),
        expect![[
            r#"Qwen3, positions 128, base 7.5, {"rope_type":"linear","factor":2.0}, {"query_key_value":false,"output":false,"feed_forward":false}"#
        ]],
    );
    // Positions grow with YaRN, and what is left out is as in the paper.
    check_family(
        json!({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}}),
        expect![[
            r#"Qwen3, positions 512, base 1000000, {"rope_type":"yarn","factor":4.0,"attention_factor":1.138629436111989,"beta_fast":32.0,"beta_slow":1.0,"truncate":true,"original_max_position_embeddings":128}, {"query_key_value":false,"output":false,"feed_forward":false}"#
        ]],
    );
    check_family(
        json!({"rope_scaling": {"type": "yarn", "factor": 4.0}, "max_position_embeddings": 100}),
        expect![[
            r#"Qwen3, positions 400, base 1000000, {"rope_type":"yarn","factor":4.0,"attention_factor":1.138629436111989,"beta_fast":32.0,"beta_slow":1.0,"truncate":true,"original_max_position_embeddings":100}, {"query_key_value":false,"output":false,"feed_forward":false}"#
        ]],
    );
    check_family(
        json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "mscale": 0.7, "mscale_all_dim": 1.3,
        "beta_fast": 16, "beta_slow": 2, "truncate": false, "original_max_position_embeddings": 64}}),
        expect![[
            r#"Qwen3, positions 128, base 1000000, {"rope_type":"yarn","factor":2.0,"attention_factor":0.9618489291057439,"beta_fast":16.0,"beta_slow":2.0,"truncate":false,"original_max_position_embeddings":64}, {"query_key_value":false,"output":false,"feed_forward":false}"#
        ]],
    );
    check_family(
        json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "attention_factor": 0.5}}),
        expect![[
            r#"Qwen3, positions 256, base 1000000, {"rope_type":"yarn","factor":2.0,"attention_factor":0.5,"beta_fast":32.0,"beta_slow":1.0,"truncate":true,"original_max_position_embeddings":128}, {"query_key_value":false,"output":false,"feed_forward":false}"#
        ]],
    );
    for kind in ["dynamic", "longrope", "su", "mrope", "proportional"] {
        let value = json!({"rope_scaling": {"rope_type": kind, "factor": 2.0}});
        let mut config = base();
        config["rope_scaling"] = value["rope_scaling"].clone();
        let error = ModelConfig::parse(&config.to_string(), "config.json".as_ref()).unwrap_err().to_string();
        assert!(error.starts_with("config.json: `rope_scaling` is ") && error.contains("is supported"), "{error}");
    }
    check_family(
        json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
        expect![[
            r#"config.json: `rope_scaling` is {"factor":2.0,"rope_type":"dynamic"}, but only "rope_type" "default", "linear", "llama3" or "yarn" is supported"#
        ]],
    );
    check_family(
        json!({"rope_scaling": {"type": "default", "mrope_section": [16, 24, 24]}}),
        expect![[
            r#"config.json: `rope_scaling` has `mrope_section`: [16,24,24], which is not supported for its "rope_type""#
        ]],
    );
    check_family(
        json!({"rope_scaling": {"rope_type": "default", "factor": 2.0}}),
        expect![[r#"config.json: `rope_scaling` has `factor`: 2.0, which is not supported for its "rope_type""#]],
    );
    check_family(
        json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}}),
        expect![[
            r#"config.json: `rope_parameters` has `full_attention`: {"rope_type":"default"}, which is not supported for its "rope_type""#
        ]],
    );
    check_family(
        json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
        expect![[
            r#"config.json: `rope_parameters` has `partial_rotary_factor`: 0.5, which is not supported for its "rope_type""#
        ]],
    );
    check_family(
        json!({"rope_scaling": {"type": "linear"}}),
        expect![[r#"config.json: `rope_scaling` is {"type":"linear"}, expected to hold a number `factor`"#]],
    );
    check_family(
        json!({"rope_scaling": {"type": "linear", "factor": 0.5}}),
        expect!["the model's `factor` is 0.5, expected at least 1"],
    );
    check_family(
        json!({"rope_scaling": {"type": "linear", "factor": "2"}}),
        expect![[
            r#"config.json: `rope_scaling` is {"factor":"2","type":"linear"}, expected to hold a number `factor`"#
        ]],
    );
    check_family(
        json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0}}),
        expect!["the model's `low_freq_factor` is 4, expected above 0 and below `high_freq_factor` = 4"],
    );
    check_family(
        json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}),
        expect![[
            r#"config.json: `rope_scaling` is {"factor":8.0,"rope_type":"llama3"}, expected to hold a number `low_freq_factor`"#
        ]],
    );
    check_family(
        json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "attention_factor": -1.0}}),
        expect!["the model's `attention_factor` is -1, expected above 0"],
    );
    check_family(
        json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 0}}),
        expect!["the model's `original_max_position_embeddings` is 0, expected at least 1"],
    );
    check_family(
        json!({"rope_scaling": "yarn"}),
        expect![[r#"config.json: `rope_scaling` is "yarn", expected an object"#]],
    );
    check_family(
        json!({"partial_rotary_factor": 0.25}),
        expect![
            "config.json: `partial_rotary_factor` is 0.25, but only 1 (every number of a head is turned) is supported"
        ],
    );
    check_family(
        json!({"rope_interleaved": true}),
        expect!["config.json: `rope_interleaved` is true, but only false is supported"],
    );
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    for kind in ["mixtral", "qwen2_moe", "qwen3_moe", "gemma2", "phi3", "gpt2", "qwen2_vl", "llama4"] {
        let mut value = base();
        value["model_type"] = json!(kind);
        let error = ModelConfig::parse(&value.to_string(), "config.json".as_ref()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("config.json: `model_type` is {kind:?}, but only ")), "{error}");
    }
    check_family(
        json!({"num_local_experts": 8}),
        expect!["config.json: `num_local_experts` is 8, but only a dense model is supported"],
    );
    check_family(
        json!({"num_experts": 128}),
        expect!["config.json: `num_experts` is 128, but only a dense model is supported"],
    );
    check_family(
        json!({"compression_config": {"format": "int-quantized"}}),
        expect![[
            r#"config.json: `compression_config` is {"format":"int-quantized"}, but only a folder without it is supported"#
        ]],
    );
    check_family(
        json!({"quantization_config": {"config_groups": "x".repeat(1000)}}),
        expect![[
            r#"config.json: `quantization_config` is {"config_groups":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…, but only a folder without it is supported"#
        ]],
    );
    check_family(
        json!({"num_hidden_layers": 1_000_000_000_000_u64}),
        expect!["the model's `num_hidden_layers` is 1000000000000, expected at most 4096"],
    );
    check_family(
        json!({"vocab_size": u64::MAX}),
        expect!["the model's `vocab_size` is too large, expected a matrix that fits into memory"],
    );
    check_family(
        json!({"intermediate_size": 1u64 << 60}),
        expect!["the model's `intermediate_size` is too large, expected a matrix that fits into memory"],
    );
    check_family(
        json!({"num_attention_heads": 1u64 << 61, "num_key_value_heads": 1, "head_dim": 16}),
        expect!["the model's `num_attention_heads` is too large, expected a matrix that fits into memory"],
    );
    check_family(json!({"vocab_size": -1}), expect!["config.json: `vocab_size` is -1, expected a count"]);
}

/// Configs of strangers: bytes changed, values replaced by what JSON has. None may panic.
#[test]
fn no_config_panics() {
    let text = base().to_string();
    for round in 0..4000u64 {
        let mut bytes = text.clone().into_bytes();
        for number in crate::numbers(1 + (round % 4) as usize, round) {
            let at = (number >> 8) as usize % bytes.len();
            bytes[at] = b"0123456789-e.\"{}[],:truefalsn"[number as usize % 29];
        }
        let _ = ModelConfig::parse(&String::from_utf8_lossy(&bytes), "config.json".as_ref());
    }
    let values = [json!(0), json!(-1), json!(1e300), json!(1u64 << 63), json!("x"), json!([]), json!({}), json!(true)];
    let mut base = base();
    base["rope_scaling"] = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64});
    for key in base.as_object().unwrap().keys() {
        for value in &values {
            let mut changed = base.clone();
            changed[key] = value.clone();
            let _ = ModelConfig::parse(&changed.to_string(), "config.json".as_ref());
        }
    }
    for key in ["rope_type", "factor", "original_max_position_embeddings", "beta_fast", "truncate", "mscale"] {
        for value in &values {
            let mut changed = base.clone();
            changed["rope_scaling"][key] = value.clone();
            let _ = ModelConfig::parse(&changed.to_string(), "config.json".as_ref());
        }
    }
}

#[test]
fn what_is_no_object_is_refused() {
    let parse = |text: &str| ModelConfig::parse(text, "config.json".as_ref()).unwrap_err().to_string();
    expect!["config.json is not a JSON object: it is []"].assert_eq(&parse("[]"));
    expect!["config.json is not a JSON object: EOF while parsing an object at line 1 column 1"].assert_eq(&parse("{"));
}

#[test]
fn written_and_read_again_it_is_the_same() {
    let mut config = small(true);
    config.eos_token_id = vec![4];
    for config in [small(false), config] {
        assert_eq!(ModelConfig::parse(&config.to_json(), "config.json".as_ref()).unwrap(), config);
    }
}

#[test]
fn the_fixture_is_read() {
    let config = ModelConfig::read(&fixture("qwen3-tiny").join("config.json")).unwrap();
    expect![[r#"{"family":"qwen3","vocab_size":320,"hidden_size":32,"intermediate_size":56,"num_hidden_layers":3,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":12,"max_position_embeddings":256,"rope_theta":10000.0,"rope_scaling":{"rope_type":"default"},"rms_norm_eps":1e-6,"tie_word_embeddings":false,"biases":{"query_key_value":false,"output":false,"feed_forward":false},"initializer_range":0.02,"eos_token_id":[0],"bos_token_id":null,"pad_token_id":0}"#]].assert_eq(&serde_json::to_string(&config).unwrap());
}

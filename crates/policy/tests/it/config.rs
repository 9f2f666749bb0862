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
            r#"{"vocab_size":100,"hidden_size":32,"intermediate_size":64,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,"max_position_embeddings":128,"rope_theta":1000000.0,"rms_norm_eps":1e-6,"tie_word_embeddings":true,"initializer_range":0.02,"eos_token_id":[1,2],"bos_token_id":null,"pad_token_id":null}"#
        ]],
    );
    check(
        json!({"head_dim": null, "num_key_value_heads": null, "eos_token_id": 7}),
        expect![[
            r#"{"vocab_size":100,"hidden_size":32,"intermediate_size":64,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":4,"head_dim":8,"max_position_embeddings":128,"rope_theta":1000000.0,"rms_norm_eps":1e-6,"tie_word_embeddings":true,"initializer_range":0.02,"eos_token_id":[7],"bos_token_id":null,"pad_token_id":null}"#
        ]],
    );
    check(
        json!({"rope_theta": null, "rope_parameters": {"rope_type": "default", "rope_theta": 5.0}}),
        expect![[
            r#"{"vocab_size":100,"hidden_size":32,"intermediate_size":64,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,"max_position_embeddings":128,"rope_theta":5.0,"rms_norm_eps":1e-6,"tie_word_embeddings":true,"initializer_range":0.02,"eos_token_id":[1,2],"bos_token_id":null,"pad_token_id":null}"#
        ]],
    );
    check(
        json!({"model_type": "llama"}),
        expect![[r#"config.json: `model_type` is "llama", but only "qwen3" is supported"#]],
    );
    check(
        json!({"model_type": null}),
        expect![[r#"config.json: `model_type` is missing, but only "qwen3" is supported"#]],
    );
    check(
        json!({"use_sliding_window": true}),
        expect!["config.json: `use_sliding_window` is true, but only false is supported"],
    );
    check(
        json!({"layer_types": ["full_attention", "sliding_attention"]}),
        expect![[
            r#"config.json: `layer_types` is ["full_attention","sliding_attention"], but only "full_attention" in every layer is supported"#
        ]],
    );
    check(
        json!({"rope_scaling": {"type": "yarn", "factor": 4.0}}),
        expect![[
            r#"config.json: `rope_scaling` is {"factor":4.0,"type":"yarn"}, but only the plain rotary embedding ("rope_type": "default") is supported"#
        ]],
    );
    check(
        json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0}}),
        expect![[
            r#"config.json: `rope_parameters` is {"factor":2.0,"rope_type":"linear"}, but only the plain rotary embedding ("rope_type": "default") is supported"#
        ]],
    );
    check(
        json!({"attention_bias": true}),
        expect!["config.json: `attention_bias` is true, but only false is supported"],
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
    expect![[r#"{"vocab_size":320,"hidden_size":32,"intermediate_size":56,"num_hidden_layers":3,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":12,"max_position_embeddings":256,"rope_theta":10000.0,"rms_norm_eps":1e-6,"tie_word_embeddings":false,"initializer_range":0.02,"eos_token_id":[0],"bos_token_id":null,"pad_token_id":0}"#]].assert_eq(&serde_json::to_string(&config).unwrap());
}

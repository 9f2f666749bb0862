//! A tokenizer in which every word is one token, in the format of Hugging Face.

use serde_json::{Map, Value, json};

/// The token that ends a text; its id is 0.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// The token of every word outside the vocabulary; its id is 1. It is an ordinary word, so decoding
/// shows it: an answer with it must not read as an answer without.
pub const UNKNOWN: &str = "<unk>";

/// The `tokenizer_config.json` to put beside [`tokenizer_json`], for readers that ask for one.
pub const TOKENIZER_CONFIG_JSON: &str = r#"{
  "tokenizer_class": "PreTrainedTokenizerFast",
  "eos_token": "<|endoftext|>",
  "clean_up_tokenization_spaces": false
}
"#;

/// The `tokenizer.json` of a vocabulary: `<|endoftext|>`, `<unk>`, then the words in their order,
/// repeated ones once. Words must hold no white space: text is split at it.
pub fn tokenizer_json<S: AsRef<str>>(words: &[S]) -> String {
    let mut vocabulary = Map::new();
    let all = [END_OF_TEXT, UNKNOWN].into_iter().chain(words.iter().map(AsRef::as_ref));
    for word in all {
        let next = vocabulary.len();
        vocabulary.entry(word).or_insert_with(|| Value::from(next));
    }
    let end = json!({
        "id": 0, "content": END_OF_TEXT, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    });
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [end],
        "normalizer": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": null,
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": UNKNOWN },
    });
    format!("{file:#}\n")
}

"""Random Qwen3 models with a tokenizer, as Hugging Face folders, and files of tokens."""

import json
import os
import random

SHAPES = {
    "t": dict(hidden_size=256, num_hidden_layers=6, head_dim=32, intermediate_size=768, vocab_size=512),
    "s": dict(hidden_size=512, num_hidden_layers=12, head_dim=64, intermediate_size=1536, vocab_size=4096),
}
END = "<|endoftext|>"


def model(shape, folder):
    """Makes the folder of `shape` unless it is there; heads 8 on 4, tied embeddings, 4,096 positions."""
    if os.path.exists(os.path.join(folder, "tokenizer.json")):
        return
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        **SHAPES[shape],
        num_attention_heads=8,
        num_key_value_heads=4,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
        eos_token_id=0,
        pad_token_id=0,
        bos_token_id=None,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    # One word per token, so that TRL's text prompts become exactly the tokens of the file.
    words = {END: 0, **{word(token): token for token in range(1, config.vocab_size)}}
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
        special = dict(eos_token=END, pad_token=END, unk_token=END)
        json.dump(dict(tokenizer_class="PreTrainedTokenizerFast", model_max_length=4096, **special), file)
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=END))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(os.path.join(folder, "tokenizer.json"))


def word(token):
    return f"w{token}"


def tokens(path, vocabulary, groups, group, prefix, completion):
    """A file that `toehold bench --tokens` and the peers read; never token 0, which ends a text."""
    rng = random.Random(0)
    draw = lambda count: [rng.randrange(1, vocabulary) for _ in range(count)]
    with open(path, "w") as file:
        for _ in range(groups):
            given = draw(prefix)
            completions = [draw(completion) for _ in range(group)]
            start = dict(prompt=given[:1], prefix=given[1:], completions=completions)
            print(json.dumps(start), file=file)

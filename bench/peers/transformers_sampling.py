"""transformers' `generate`: all rollouts in one batch, no token that ends one early."""

import sys

import common


def main(folder, tokens, group, completion, dtype):
    stream = common.protocol()
    torch = common.torch_with_threads()
    from transformers import AutoModelForCausalLM

    dtypes = {"f32": torch.float32, "bf16": torch.bfloat16}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtypes[dtype]).eval()
    # Without an end token nothing ends early, and no processor has to keep it from being drawn.
    model.generation_config.eos_token_id = None
    vocabulary = model.config.vocab_size
    starts = common.starts(tokens)

    def run(number):
        rows = [common.given(start, number, vocabulary) for start in starts for _ in range(group)]
        ids = torch.tensor(rows)
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=completion,
                min_new_tokens=None,
                pad_token_id=0,
            )
        assert out.shape == (len(rows), ids.shape[1] + completion)
        return len(rows) * completion

    common.serve(stream, run, f"{dtype}, {model.config._attn_implementation}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])

"""vLLM's CPU build, in this process, with its prefix cache."""

import os
import sys

import common

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB: room for every rollout of the workloads.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["VLLM_NO_USAGE_STATS"] = "1"


def main(folder, tokens, group, completion, dtype):
    stream = common.protocol()
    from vllm import LLM, SamplingParams

    starts = common.starts(tokens)
    longest = max(len(start["prompt"]) + len(start["prefix"]) for start in starts)
    llm = LLM(
        model=folder,
        dtype={"f32": "float32", "bf16": "bfloat16"}[dtype],
        enforce_eager=True,
        enable_prefix_caching=True,
        max_model_len=longest + completion,
        max_num_seqs=len(starts) * group,
        seed=0,
        disable_log_stats=True,
    )
    vocabulary = llm.llm_engine.model_config.get_vocab_size()
    params = SamplingParams(
        temperature=1.0, max_tokens=completion, min_tokens=0, ignore_eos=True, detokenize=False
    )

    def run(number):
        prompts = [
            {"prompt_token_ids": common.given(start, number, vocabulary)} for start in starts for _ in range(group)
        ]
        outputs = llm.generate(prompts, params, use_tqdm=False)
        made = sum(len(output.outputs[0].token_ids) for output in outputs)
        assert made == len(prompts) * completion
        return made

    # Its first rounds are several times slower than the later ones.
    common.serve(stream, run, dtype, warm=4)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])

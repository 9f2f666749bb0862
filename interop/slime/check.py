"""Runs an exported job's functions against a stand-in for slime: rows, start ids, rewards, and the command line.

    python check.py JOB STAND_INS

slime's own code is not here: `Sample` and `sglang_rollout` below have the fields and the behaviour that its sources
have at the commit of the job, and no more. What passes here is that the job's own files do what they say.
"""

import argparse
import asyncio
import importlib
import json
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

import transformers

job, stand_ins = map(Path, sys.argv[1:])

# slime's names with a value, then its words without one; Megatron's below.
VALUES = """hf-checkpoint ref-load load save prompt-data input-key label-key metadata-key num-rollout rollout-batch-size
    n-samples-per-prompt global-batch-size rollout-max-response-len rollout-temperature rollout-top-k rollout-top-p
    rollout-seed max-tokens-per-gpu advantage-estimator eps-clip eps-clip-high custom-generate-function-path
    custom-rm-path actor-num-nodes actor-num-gpus-per-node num-gpus-per-node rollout-num-gpus-per-engine save-interval
    eval-interval n-samples-per-eval-prompt eval-temperature eval-top-k eval-top-p eval-max-response-len
    lr lr-decay-style lr-warmup-iters weight-decay clip-grad seed optimizer tensor-model-parallel-size
    attention-dropout hidden-dropout num-layers hidden-size"""
WORDS = """colocate rollout-shuffle use-dynamic-batch-size disable-grpo-std-normalization calculate-per-token-loss
    accumulate-allreduce-grads-in-fp32 attention-softmax-in-fp32"""


@dataclass
class Sample:
    """The stand-in for `slime.utils.types.Sample`."""

    prompt: str
    label: str
    metadata: dict
    tokens: list = field(default_factory=list)
    response_length: int = 0


class Engine:
    """The stand-in for SGLang: writes what it is told to, and keeps what it was asked."""

    def __init__(self, tokenizer):
        self.tokenizer, self.writes, self.asked = tokenizer, "", []

    def module(self):
        """The stand-in for `slime.rollout.sglang_rollout`."""
        made = types.ModuleType("slime.rollout.sglang_rollout")

        def prepared(sample, tokenizer, processor):
            return sample.tokens or tokenizer.encode(sample.prompt, add_special_tokens=False)

        async def generate(args, sample, sampling_params):
            asked = prepared(sample, self.tokenizer, None)
            self.asked.append(list(asked))
            written = self.tokenizer.encode(self.writes, add_special_tokens=False)
            sample.tokens = asked + written
            sample.response_length += len(written)
            return sample

        made._prepare_prompt_ids, made.generate = prepared, generate
        made.GenerateState = lambda args: types.SimpleNamespace(tokenizer=self.tokenizer)
        return made


def parsed():
    """The command line, after the program and its file."""
    lines = (stand_ins / "ray.txt").read_text().splitlines()
    workers = json.loads(lines[lines.index("--runtime-env-json") + 1])["env_vars"]
    assert workers["PYTHONPATH"].startswith(str(job.resolve())) and workers["TOEHOLD_VERIFIER"]
    python, program, *given = lines[lines.index("--") + 1 :]
    assert (python, program) == ("python", "train.py")
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--eval-prompt-data", nargs="+")
    for name in VALUES.split():
        parser.add_argument(f"--{name}")
    for name in WORDS.split():
        parser.add_argument(f"--{name}", action="store_true")
    told = parser.parse_args(given)
    assert told.max_tokens_per_gpu == "16384", "an argument of the user's does not win"
    assert int(told.global_batch_size) == int(told.rollout_batch_size) * int(told.n_samples_per_prompt)
    converted = (stand_ins / "conversion.txt").read_text().splitlines()
    assert converted[0] == "tools/convert_hf_to_torch_dist.py" and converted[-1] == told.ref_load
    return told


def samples(path):
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return [Sample(row["prompt"], row["label"], row["metadata"]) for row in rows]


async def main():
    told = parsed()
    print("arguments:", told.advantage_estimator, told.eps_clip, told.lr, "evaluated on", told.eval_prompt_data[0])
    tokenizer = transformers.AutoTokenizer.from_pretrained(told.hf_checkpoint)
    engine = Engine(tokenizer)
    package = types.ModuleType("slime.rollout")
    sys.modules.update({"slime": types.ModuleType("slime"), "slime.rollout": package})
    package.sglang_rollout = types.ModuleType("slime.rollout.sglang_rollout")
    named = [told.custom_generate_function_path, told.custom_rm_path]
    try:
        importlib.import_module(named[0].rpartition(".")[0])
        raise AssertionError("a slime that would encode the text again was not refused")
    except ImportError as error:
        print("a slime without ids is refused:", str(error)[:46])
    package.sglang_rollout = engine.module()
    generate, reward = (getattr(importlib.import_module(at), name) for at, _, name in (path.rpartition(".") for path in named))

    rows = samples(told.prompt_data)
    kinds = [row.metadata["kind"] for row in rows]
    print(f"rows: {len(rows)}, {kinds.count('prefixed')} from a prefix; {len(samples(told.eval_prompt_data[1]))} held out")
    assert kinds.count("prefixed") > 0
    right = wrong = 0
    for row in rows:
        given = row.metadata
        answer = " ".join(f"{name} {value}" for name, value in zip("ABCDEFG", given["answer"].split(), strict=False))
        engine.writes = f" answer {answer} <|endoftext|>"
        begun = await generate(None, row, {})
        assert engine.asked[-1] == given["prompt_ids"] + given["prefix_ids"], "the engine was not asked with the exact ids"
        assert begun.tokens[: -begun.response_length] == engine.asked[-1], "something of the start would be learnt from"
        right += await reward(None, begun)
        # Interrupted and gone on with: the start is not put before it once more.
        before = list(begun.tokens)
        await generate(None, begun, {})
        assert engine.asked[-1] == before
        engine.writes = " nothing"
        wrong += await reward(None, await generate(None, Sample(row.prompt, row.label, given), {}))
    print(f"starts: {len(rows)} begin at the exact ids, by a stand-in for slime")
    print(f"rewards: {right:.0f} of {len(rows)} right answers, {wrong:.0f} of as many wrong ones")
    assert right == len(rows) and wrong == 0


asyncio.run(main())

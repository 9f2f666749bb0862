"""Holds an exported job against OpenRLHF's own code: arguments, rows, encoding, the reward call.

    python check.py JOB ARGUMENTS OPENRLHF

The arguments are read by the calls of `add_argument` in `cli/train_ppo_ray.py`, made on a parser of our own, since
the file itself imports Ray and DeepSpeed. Its data reader and its way to a reward function run as they are.
"""

import argparse
import ast
import importlib.util
import json
import sys
from datetime import datetime
from pathlib import Path

import transformers

job, arguments, openrlhf = map(Path, sys.argv[1:])


def module(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def parser():
    """OpenRLHF's parser: every statement of its main part up to the parsing, but for imports."""
    tree = ast.parse((openrlhf / "cli/train_ppo_ray.py").read_text())
    [main] = [node for node in tree.body if isinstance(node, ast.If)]
    statements = []
    for node in main.body:
        if "parse_args" in ast.unparse(node):
            break
        statements.append(node)
    # What the file imports and its parser uses.
    scope = {"argparse": argparse, "datetime": datetime}
    exec(compile(ast.Module(statements, []), "train_ppo_ray.py", "exec"), scope)
    return scope["parser"]


def main():
    given = arguments.read_text().splitlines()
    # A value with a space is two on the command line of run.sh, and two lines here already.
    parsed = vars(parser().parse_args(given))
    print("arguments:", parsed["algo.advantage.estimator"], parsed["actor.eps_clip_low_high"], parsed["actor.adam.lr"])

    read = module("prompts_dataset", openrlhf / "datasets/prompts_dataset.py").preprocess_data
    tokenizer = transformers.AutoTokenizer.from_pretrained(parsed["actor.model_name_or_path"])
    rows = [json.loads(line) for line in (job / "train.jsonl").read_text().splitlines()]
    keys = {"input_key": parsed["data.input_key"], "label_key": parsed["data.label_key"]}
    pairs = [read(row, **keys) for row in rows]
    longest = max(len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt, _ in pairs)
    room = parsed["data.max_len"] - parsed["rollout.max_new_tokens"]
    assert longest == room, f"the longest prompt has {longest} tokens, {room} fit"
    print(f"rows: {len(pairs)}, the longest prompt has {longest} tokens")

    reward = module("reward_func", parsed["reward.remote_url"]).reward_func
    prompts, labels = map(list, zip(*pairs, strict=True))
    answers = [json.loads(label)["answer"].split() for label in labels]
    names = "ABCDEFG"
    right = [
        " answer " + " ".join(f"{name} {value}" for name, value in zip(names, answer, strict=False)) + " <|endoftext|>"
        for answer in answers
    ]
    told = reward([prompt + text for prompt, text in zip(prompts, right, strict=True)], prompts, labels)
    wrong = reward([prompt + " nothing" for prompt in prompts], prompts, labels)
    print(f"rewards: {sum(told['rewards']):.0f} of {len(rows)} right answers, {sum(wrong['rewards']):.0f} of as many wrong ones")
    assert sum(told["rewards"]) == len(rows) and sum(wrong["rewards"]) == 0


main()

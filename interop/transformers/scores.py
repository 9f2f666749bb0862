"""Compares what `toehold score` printed with transformers.

    toehold score MODEL lines.jsonl | python interop/transformers/scores.py MODEL
    toehold score MODEL lines.jsonl | python interop/transformers/scores.py MODEL --out theirs.jsonl

Needs torch and transformers. Reads the lines from standard input and computes each anew with transformers in
f32, one at a time: log-probability and entropy of every scored token, from the logits of the whole line.
Prints the largest differences; exit status 1 where one is above 1e-4. With --out the lines are also written with
transformers' `logprobs` in place of ours, which `toehold score` then compares itself.
"""

import argparse
import json
import sys

import torch
from transformers import AutoModelForCausalLM


def scored(model, line):
    """Log-probabilities and entropies of a line's scored tokens."""
    given = line["tokens"][:1] if "tokens" in line else line["prompt_ids"] + line["prefix_ids"]
    completion = line["tokens"][1:] if "tokens" in line else line["completion_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([given + completion])).logits[0]
    rows = torch.log_softmax(logits, -1)[len(given) - 1 : len(given) + len(completion) - 1]
    logprobs = rows.gather(1, torch.tensor(completion, dtype=torch.long).unsqueeze(1)).squeeze(1)
    return logprobs, -(rows.exp() * rows).sum(-1)


def largest(ours, theirs):
    return (torch.tensor(ours) - theirs).abs().max().item() if ours else 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--out", help="write the lines with transformers' logprobs")
    arguments = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    lines = [json.loads(text) for text in sys.stdin]
    tokens, worst = 0, [0.0, 0.0]
    out = open(arguments.out, "w") if arguments.out else None
    for line in lines:
        logprobs, entropies = scored(model, line)
        assert len(line["logprobs"]) == len(line["entropies"]) == len(logprobs), line
        tokens += len(logprobs)
        pairs = [(line["logprobs"], logprobs), (line["entropies"], entropies)]
        worst = [max(before, largest(*pair)) for before, pair in zip(worst, pairs)]
        if out:
            out.write(json.dumps({**line, "logprobs": logprobs.tolist()}) + "\n")
    if out:
        out.close()
    print(f"{len(lines)} lines, {tokens} tokens: logprobs differ by {worst[0]:.1e}, entropies by {worst[1]:.1e} at most")
    return 1 if not tokens or max(worst) > 1e-4 else 0


if __name__ == "__main__":
    sys.exit(main())

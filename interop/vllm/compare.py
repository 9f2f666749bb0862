"""Greedy tokens and log-probabilities of a vLLM server beside toehold's own; rewards and drift in runs' events."""

import argparse
import json
import pathlib
import subprocess
import urllib.request

parser = argparse.ArgumentParser()
parser.add_argument("--toehold")
parser.add_argument("--base")
parser.add_argument("--server")
parser.add_argument("--model", default="m")
parser.add_argument("--events", nargs="*", default=[], help="folders of runs")
args = parser.parse_args()


def ask(route, body):
    request = urllib.request.Request(args.server + route, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.loads(answer.read())


if args.server:
    prompts = [[1 + (7 * i + j * (i + 3)) % 29 for j in range(4 + i)] for i in range(16)]
    def ours(command, lines):
        text = "\n".join(json.dumps(line) for line in lines)
        run = subprocess.run([args.toehold, *command], input=text, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in run.stdout.splitlines()]

    greedy = ours(["generate", args.base, "--greedy", "--max-tokens", "32", "--json"],
                  [{"prompt_ids": prompt} for prompt in prompts])
    theirs = []
    for prompt in prompts:
        body = {"model": "m", "prompt": [prompt], "max_tokens": 32, "temperature": 0, "ignore_eos": True,
                "stop_token_ids": [0], "logprobs": 0, "return_token_ids": True}
        theirs.append(ask("/v1/completions", {**body, "model": args.model})["choices"][0])
    equal = sum(one["completion_ids"] == choice["token_ids"] for one, choice in zip(greedy, theirs))
    scored = ours(["score", args.base, "--json"], [{"prompt_ids": prompt, "completion_ids": choice["token_ids"]}
                                                   for prompt, choice in zip(prompts, theirs)])
    differences = [abs(a - b) for one, choice in zip(scored, theirs)
                   for a, b in zip(one["logprobs"], choice["logprobs"]["token_logprobs"], strict=True)]
    print(f"{equal} of {len(prompts)} greedy completions of up to 32 tokens equal; the log-probabilities of their "
          f"{len(differences)} tokens differ by at most {max(differences):.1e}")

for path in args.events:
    events = [json.loads(line) for line in (pathlib.Path(path) / "events.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    drift = [step["mismatch"] for step in steps]
    versions = {json.dumps(step["policy"]) for step in steps}
    first, last = ([step["reward"] for step in part] for part in (steps[:5], steps[-5:]))
    print(f"{path}: {len(steps)} steps by {len(versions)} sets of weights, reward of the first 5 {sum(first) / len(first):.3f}, "
          f"of the last 5 {sum(last) / len(last):.3f}, |learner - sampler| of log-probabilities {min(drift):.1e} to {max(drift):.1e}")

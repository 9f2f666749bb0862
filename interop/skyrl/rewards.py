"""Rewards of the runs that run.sh made, by step, as means over their seeds: `python3 interop/skyrl/rewards.py RUNS`."""

import json
import pathlib
import statistics
import sys


def steps(path):
    events = [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "step"]


for objective in ("reinforce", "grpo", "cispo"):
    for learner in ("server", "here"):
        runs = [steps(path) for path in sorted(pathlib.Path(sys.argv[1]).glob(f"{learner}-{objective}-*"))]
        by_step = [statistics.mean(step["reward"] for step in at) for at in zip(*runs, strict=True)]
        def ends(of):
            return ", ".join(f"{statistics.mean(step['reward'] for step in run[of]):.3f}" for run in runs)
        mismatch = max(step["mismatch"] for run in runs for step in run)
        print(f"{objective}, {learner}: mean reward of the first five steps {statistics.mean(by_step[:5]):.3f} "
              f"({ends(slice(5))}), of the last five {statistics.mean(by_step[-5:]):.3f} ({ends(slice(-5, None))}); "
              f"|current - behavior| at most {mismatch:.1e}")
        print("   by step: " + " ".join(f"{reward:.2f}" for reward in by_step))

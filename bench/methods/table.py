#!/usr/bin/env python3
"""Prints the table of methods from the runs of run.sh: python3 bench/methods/table.py OUT

Success without a prefix on held-out problems, by the band that the base's own success puts each in, as
mean over seeds and the least and most. Needs nothing but Python.
"""

import json
import pathlib
import statistics
import sys


def band(count):
    """The band of a problem by the base's 32 attempts; two of the five bands are joined at each end."""
    success = count["successes"] / count["attempts"]
    if success < 0.1:
        return "hard"
    return "medium" if success < 0.9 else "saturated"


def read(run):
    """Held-out success by band before and after, and what the run spent; none if it is not finished."""
    measured, finished, steps, silent = [], None, [], [0, 0]
    for line in (run / "events.jsonl").open():
        event = json.loads(line)
        if event["event"] == "evaluated" and event["set"] == "held_out":
            measured.append(event)
        elif event["event"] == "finished":
            finished = event
        elif event["event"] == "started":
            collected = event["flops"]
        elif event["event"] == "step":
            steps.append(event)
            for kind in ("plain", "prefixed"):
                groups = event[kind]["groups"]
                silent[0] += groups["all_fail"] + groups["all_pass"]
                silent[1] += groups["all_fail"] + groups["all_pass"] + groups["mixed"]
    if finished is None or len(measured) < 2:
        return None
    bands = {problem["problem"]: band(problem["count"]) for problem in measured[0]["problems"]}
    success = {}
    for name, event in (("before", measured[0]), ("after", measured[-1])):
        for of in ("hard", "medium", "saturated", "all"):
            counts = [p["count"] for p in event["problems"] if of in (bands[p["problem"]], "all")]
            attempts = sum(count["attempts"] for count in counts)
            success[name, of] = 100 * sum(count["successes"] for count in counts) / max(attempts, 1)
    return {
        "success": success,
        "steps": len(steps),
        "collected": collected / finished["flops"],
        "silent": silent[0] / max(silent[1], 1),
    }


def spread(values):
    """Mean, least and most."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main():
    out = pathlib.Path(sys.argv[1])
    seeds = sorted(out.glob("seed-*"))
    recipes = sorted({run.name for seed in seeds for run in seed.iterdir() if (run / "events.jsonl").exists()})
    rows = []
    for recipe in recipes:
        runs = [read(seed / recipe) for seed in seeds if (seed / recipe / "events.jsonl").exists()]
        runs = [run for run in runs if run]
        if runs:
            rows.append((recipe, runs))
    rows.sort(key=lambda row: -statistics.mean(run["success"]["after", "all"] for run in row[1]))
    print("| recipe | seeds | hard | medium | saturated | all held out | steps | collecting | silent groups |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    if rows:
        # Every recipe of a seed begins with the same base, measured with the same seed.
        most = max((runs for _, runs in rows), key=len)
        cells = [spread([run["success"]["before", of] for run in most]) for of in BANDS]
        print(f"| *base* | | {' | '.join(cells)} | | | |")
    for recipe, runs in rows:
        cells = [spread([run["success"]["after", of] for run in runs]) for of in BANDS]
        steps = round(statistics.mean(run["steps"] for run in runs))
        collected = 100 * statistics.mean(run["collected"] for run in runs)
        silent = 100 * statistics.mean(run["silent"] for run in runs)
        print(f"| {recipe} | {len(runs)} | {' | '.join(cells)} | {steps} | {collected:.0f} % | {silent:.0f} % |")


BANDS = ("hard", "medium", "saturated", "all")

if __name__ == "__main__":
    main()

"""Problems that a run hardly ever solved, and where their successes could be cut.

    python examples/curate.py RUN
"""

import sys
from collections import defaultdict
from dataclasses import dataclass

import toehold


@dataclass(frozen=True)
class Hard:
    """A problem with few successes, and the cuts of its first one."""

    problem: str
    successes: int
    attempts: int
    cuts: list[int]


def hard_problems(store: toehold.TraceStore, at_most: float = 0.1) -> list[Hard]:
    """Problems that were solved, but in at most this share of attempts."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    first: dict[str, toehold.Trace] = {}
    for trace in store:
        if trace.outcome == "infra":
            continue  # Nobody judged it, so it is no attempt.
        counts[trace.problem][1] += 1
        if trace.outcome == "correct":
            counts[trace.problem][0] += 1
            first.setdefault(trace.problem, trace)
    found: list[Hard] = []
    for problem, trace in first.items():
        successes, attempts = counts[problem]
        if successes <= at_most * attempts:
            length = len(trace.completion_ids)
            # Where the answer begins takes a tokenizer to say (`toehold.answer_limit`); here the last quarter is left.
            cuts = toehold.uniform_cuts(length, length * 3 // 4, purpose=problem)
            found.append(Hard(problem, successes, attempts, cuts))
    return found


def main() -> None:
    store = toehold.TraceStore(sys.argv[1])
    successes, attempts = store.success()
    print(f"{successes} of {attempts} traces are correct")
    for hard in hard_problems(store, at_most=1.0):
        print(f"{hard.problem}: {hard.successes} of {hard.attempts}, cuts at {hard.cuts}")


if __name__ == "__main__":
    main()

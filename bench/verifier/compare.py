"""Math-Verify and toehold-verifier on the same case table, one thread each, in one run.

Golds are read anew for every row on both sides. Math-Verify runs with LaTeX (boxes first) and plain
expressions, bare strings in a box, and its own alarm of 5 seconds; multiple-choice rows with its string
configuration. "of" counts the rows whose options it has; ours are of all rows. Both include contested rows.
"""

import json
import logging
import subprocess
import sys
import time
from collections import defaultdict

from math_verify import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig, parse, verify

logging.disable(logging.CRITICAL)

UNKNOWN = {"strict_boxed", "gold_precision", "answer_type", "abs_tol", "rel_tol", "multi_select", "allow_set_relation_comp"}


def given(text, form):
    return "\\boxed{" + text + "}" if form == "bare" else text


def verdict(row):
    options = row.get("options") or {}
    config = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    shown = given
    if "choices" in options:
        config = [StringExtractionConfig(strings=tuple(options["choices"]))]
        shown = lambda text, form: text
    if "targets" in options:
        known = {"latex": LatexExtractionConfig(), "expr": ExprExtractionConfig()}
        config = [known[name] for name in options["targets"]]
    gold = parse(shown(row["gold"], row["gold_form"]), config)
    prediction = parse(shown(row["prediction"], row["prediction_form"]), config)
    rounding = options.get("float_rounding", 6)
    return verify(gold, prediction, float_rounding=rounding, strict=options.get("strict", True))


def main():
    table, program, rounds = sys.argv[1], sys.argv[2], sys.argv[3]
    rows = [json.loads(line) for line in open(table, encoding="utf-8")]
    theirs = defaultdict(lambda: {"rows": 0, "right": 0, "known": 0, "seconds": 0.0})
    for row in rows:
        count = theirs[row["kind"]]
        begin = time.perf_counter()
        try:
            found = verdict(row)
        except Exception:  # its own failures count as "not equal"
            found = False
        count["seconds"] += time.perf_counter() - begin
        count["rows"] += 1
        if not UNKNOWN & set(row.get("options") or {}):
            count["known"] += 1
            count["right"] += found == row["equal"]
    ours = json.loads(subprocess.run([program, table, rounds], check=True, capture_output=True, text=True).stdout)

    print(f"{'kind':<16}{'rows':>5}{'theirs right':>14}{'ours right':>12}{'theirs/s':>10}{'ours/s':>10}{'ratio':>8}")
    for kind in sorted(ours):
        a, b = theirs[kind], ours[kind]
        print(
            f"{kind:<16}{b['rows']:>5}{a['right']:>7} of {a['known']:<4}{b['right']:>12}"
            f"{a['rows'] / a['seconds']:>10.0f}{b['rows'] / b['seconds']:>10.0f}{a['seconds'] / b['seconds']:>8.0f}"
        )
    for name, left_out in [("all", set()), ("all but security", {"security"})]:
        kinds = [kind for kind in ours if kind not in left_out]
        rows_counted = sum(ours[kind]["rows"] for kind in kinds)
        their = sum(theirs[kind]["seconds"] for kind in kinds)
        our = sum(ours[kind]["seconds"] for kind in kinds)
        right = sum(theirs[kind]["right"] for kind in kinds)
        known = sum(theirs[kind]["known"] for kind in kinds)
        print(
            f"{name:<16}{rows_counted:>5}{right:>7} of {known:<4}{sum(ours[kind]['right'] for kind in kinds):>12}"
            f"{rows_counted / their:>10.0f}{rows_counted / our:>10.0f}{their / our:>8.0f}"
        )


main()

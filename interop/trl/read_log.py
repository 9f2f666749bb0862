"""Prints what a TRL run logged, and fails where it did not train: 20 steps, finite losses, some reward, a gradient."""

import json
import math
import sys

log = [line for line in json.load(open(sys.argv[1])) if "reward" in line]
print(f"{'step':>4}  {'reward':>7}  {'silent':>7}  {'grad':>9}  {'loss':>10}  {'length':>6}")
for line in log:
    print(
        f"{line['step']:>4}  {line['reward']:>7.3f}  {line['frac_reward_zero_std']:>7.2f}  {line['grad_norm']:>9.4f}"
        f"  {line['loss']:>10.6f}  {line['completions/mean_length']:>6.1f}"
    )
first, last = (sum(line["reward"] for line in part) / len(part) for part in (log[:5], log[-5:]))
print(f"reward, mean of 5 steps: first {first:.3f}, last {last:.3f}")
assert len(log) == 20, f"{len(log)} steps, expected 20"
assert all(math.isfinite(line["loss"]) for line in log), "a loss is not finite"
assert any(line["reward"] > 0 for line in log), "no reward at all"
assert any(line["grad_norm"] > 0 for line in log), "no gradient at all"

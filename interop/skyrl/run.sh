#!/usr/bin/env bash
# Twenty steps through SkyRL's server on the processor with REINFORCE, GRPO and CISPO, from one base:
#
#   cargo build --release && interop/skyrl/run.sh FOLDER
#
# FOLDER keeps the virtual environment (from PyPI), the base, and the runs; what is there already is used.
set -euo pipefail
mkdir -p "$1"
here=$(cd "$(dirname "$0")" && pwd)
toehold=${TOEHOLD:-$here/../../target/release/toehold}
cd "$1"
[ -d base ] || "$toehold" pretrain --quiet --family chain --effort 0.3 --out base
"$here/serve.sh" venv base 8471 > server.log 2>&1 &
trap 'kill %1' EXIT
for _ in $(seq 300); do
    ! curl --silent --fail http://127.0.0.1:8471/api/v1/healthz > /dev/null || break
    sleep 1
done
for objective in reinforce grpo cispo; do
    "$toehold" train "$here/recipe.toml" --set "run.name=\"$objective\"" --set "objective.kind=\"$objective\"" "${@:2}"
    # Reward and the distance of the server's two engines, step by step.
    grep '"event":"step"' "runs/$objective/events.jsonl" |
        python3 -c 'import json, sys
for line in sys.stdin:
    step = json.loads(line)
    print(step["step"], "reward", round(step["reward"], 3), "mismatch", round(step["mismatch"], 6))'
done

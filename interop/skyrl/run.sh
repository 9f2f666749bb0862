#!/usr/bin/env bash
# Twenty steps through SkyRL's server on the processor with REINFORCE, GRPO and CISPO, and the same here, from one
# base and one adapter:
#
#   cargo build --release --workspace --bins --examples && interop/skyrl/run.sh OUT [VENV]
#
# OUT keeps the base, the adapter that the server begins with, and the runs; VENV is a virtual environment that has
# SkyRL, or is made so from PyPI (OUT/venv without it). What is there already is used. TOEHOLD names the program, BOTH
# the example both_learners, if they are not in target/release.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: interop/skyrl/run.sh OUT [VENV]}
mkdir -p "$out"
venv=$(realpath "${2:-$out/venv}")
toehold=$(realpath "${TOEHOLD:-$here/../../target/release/toehold}")
both=$(realpath "${BOTH:-$here/../../target/release/examples/both_learners}")
server=http://127.0.0.1:8471
cd "$out"
[ -d base ] || "$toehold" pretrain --quiet --family chain --effort 0.3 --out base
# A server knows nothing of the one before it.
rm -rf kept
"$here/serve.sh" "$venv" base 8471 kept > server.log 2>&1 &
serving=$!
trap 'kill $serving 2> /dev/null; wait $serving || true' EXIT
until curl --silent --fail $server/api/v1/healthz > /dev/null; do
    kill -0 $serving 2> /dev/null || { tail -5 server.log; exit 1; }
    sleep 1
done
[ -d start ] || python3 "$here/start.py" $server base kept 8 start
for objective in reinforce grpo cispo; do
    for seed in 1 2 3; do
        of=(--quiet --set "objective.kind=\"$objective\"" --set "run.seed=$seed")
        "$toehold" train "$here/recipe.toml" "${of[@]}" --set "run.name=\"server-$objective-$seed\""
        "$toehold" train "$here/recipe.toml" "${of[@]}" --set "run.name=\"here-$objective-$seed\"" \
            --set learner.kind=local --set 'learner.endpoint=""' --set policy.model=start
    done
done
python3 "$here/rewards.py" runs
for objective in reinforce grpo cispo; do
    echo "$objective: the traces of runs/server-$objective-1, learnt here and by the server"
    "$both" "runs/server-$objective-1" start
done

#!/usr/bin/env bash
# Failure prefixes on saturated problems (docs/results.md): plain GRPO and failure prefixes cut at three
# targets, on chains whose solver slips seldom and repairs half of its slips; stopped at the same FLOPs.
#
#   bench/methods/failure-prefix.sh OUT SEED...
#
# Each seed has its own base, problems and collection. It can be stopped and started again.
# `bench/methods/table.py OUT` prints the table.
set -euo pipefail
out=$1
shift
toehold=${TOEHOLD:-target/release/toehold}
recipes=$(dirname "$0")/../../recipes
flops=${FLOPS:-4e11}

for seed in "$@"; do
    base=$out/base-$seed
    [ -d "$base" ] || "$toehold" pretrain --quiet --family chain-repair --seed "$seed" --out "$base"
    set=(--set "run.seed=$seed" --set "problems.seed=$seed" --set "policy.model=\"$base\""
        --set 'problems.synthetic={ family = "chain", steps = [1, 5], methods = "one", noise = 0.04, repair = 0.5 }'
        --set problems.count=48 --set problems.held_out=240
        --set 'collect.until="max-attempts"' --set collect.max_attempts=32
        --set collect.temperature=1.0 --set collect.max_tokens=140
        --set train.flops="$flops" --set train.starts=32 --set train.group=16
        --set train.learning_rate=1e-4 --set train.max_tokens=140 --set 'train.keep="none"'
        --set evaluate.samples=1 --set evaluate.curve_samples=32 --set evaluate.every=0 --set evaluate.max_tokens=140
        --set 'evaluate.prefix_sweep=[]' --set 'evaluate.k=[1]')
    # The collection is of the base, the problems and the seed alone, so all arms share it.
    shared=$out/collection-$seed/failure-prefix/traces.db
    "$toehold" sample "$recipes/failure-prefix.toml" --quiet "${set[@]}" --set "run.folder=\"$out/collection-$seed\""
    for arm in plain 0.25 0.5 0.75; do
        recipe=$recipes/failure-prefix.toml
        method=(--set curriculum.saturated=0.9)
        if [ "$arm" = plain ]; then
            recipe=$recipes/grpo.toml
            method=(--set objective.clip_low=0.2 --set objective.clip_high=0.4)
        else
            method+=(--set curriculum.target="$arm" --set curriculum.low=0.1 --set curriculum.high=0.9)
        fi
        run=$out/seed-$seed/$arm
        [ ! -e "$run/evaluation.json" ] || continue
        if [ ! -e "$run/traces.db" ]; then
            mkdir -p "$run"
            cp "$shared" "$run/traces.part"
            mv "$run/traces.part" "$run/traces.db"
        fi
        start=$(date +%s)
        "$toehold" run "$recipe" --quiet "${set[@]}" "${method[@]}" \
            --set "run.folder=\"$out/seed-$seed\"" --set "run.name=\"$arm\"" > "$run/printed.txt"
        echo "seed $seed, $arm: $(($(date +%s) - start)) s"
    done
done

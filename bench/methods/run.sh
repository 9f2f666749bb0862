#!/usr/bin/env bash
# The table of methods in docs/results.md: each recipe on one set of chains of one to six steps, of which
# a third is never solved, a third nearly always; all stopped at the same FLOPs, collecting included.
#
#   bench/methods/run.sh OUT "RECIPE..." SEED...
#
# Each seed has its own base, problems and collection. It can be stopped and started again; start it
# twice with other seeds or recipes to use more cores. `bench/methods/table.py OUT` prints the table.
# FLOPS, RATE and STARTS (groups of a step) are read from the environment, TOEHOLD is the program.
set -euo pipefail
out=$1
recipes=$2
shift 2
toehold=${TOEHOLD:-target/release/toehold}
folder=$(dirname "$0")/../../recipes
flops=${FLOPS:-1e12}
rate=${RATE:-2e-4}
starts=${STARTS:-8}

for seed in "$@"; do
    base=$out/base-$seed
    [ -d "$base" ] || "$toehold" pretrain --quiet --family chain-graded --seed "$seed" --out "$base"
    set=(--set "run.folder=\"$out/seed-$seed\"" --set "run.seed=$seed" --set "problems.seed=$seed"
        --set "policy.model=\"$base\"" --set 'problems.synthetic={ family = "chain", steps = [1, 6] }'
        --set problems.count=240 --set problems.held_out=240
        --set 'collect.until="max-attempts"' --set collect.max_attempts=64
        --set collect.temperature=1.0 --set collect.max_tokens=112
        --set train.flops="$flops" --set train.starts="$starts" --set train.group=16
        --set train.learning_rate="$rate" --set train.max_tokens=112 --set 'train.keep="none"'
        --set evaluate.samples=1 --set evaluate.curve_samples=32 --set evaluate.every=0 --set evaluate.max_tokens=112
        --set 'evaluate.prefix_sweep=[]' --set 'evaluate.k=[1]')
    # The collection is of the base, the problems and the seed alone, so the methods share it.
    shared=$out/collection-$seed/prefix-rl/traces.db
    "$toehold" sample "$folder/prefix-rl.toml" --quiet "${set[@]}" --set "run.folder=\"$out/collection-$seed\""
    for recipe in $recipes; do
        run=$out/seed-$seed/$recipe
        [ ! -e "$run/evaluation.json" ] || continue
        if [ ! -e "$run/traces.db" ]; then
            mkdir -p "$run"
            cp "$shared" "$run/traces.part"
            mv "$run/traces.part" "$run/traces.db"
        fi
        start=$(date +%s)
        "$toehold" run "$folder/$recipe.toml" --quiet "${set[@]}" > "$run/printed.txt"
        echo "seed $seed, $recipe: $(($(date +%s) - start)) s"
    done
done

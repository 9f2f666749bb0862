#!/usr/bin/env bash
# Failure prefixes on the claim's own ground (docs/results.md): problems that the base nearly always
# solves are all there is to learn from, and what counts is success on longer ones. Plain GRPO on the
# saturated problems, plain GRPO on problems of medium difficulty, and failure prefixes of the saturated
# ones cut at three targets; stopped at the same FLOPs, collecting included.
#
#   bench/methods/saturated.sh OUT SEED...
#
# Each seed has its own base, problems and collection. It can be stopped and started again.
# `bench/methods/table.py OUT` prints the table.
set -euo pipefail
out=$1
shift
toehold=${TOEHOLD:-target/release/toehold}
recipes=$(dirname "$0")/../../recipes
flops=${FLOPS:-4e11}

# The problems of one seed: `problems NAME FEWEST MOST COUNT SEED` writes OUT/NAME.jsonl.
problems() {
    [ -e "$out/$1.jsonl" ] || "$toehold" problems "$recipes/grpo.toml" --quiet \
        --set "problems.synthetic={ family = \"chain\", steps = [$2, $3], methods = \"one\", noise = 0.04, repair = 0.5 }" \
        --set "problems.count=$4" --set problems.held_out=1 --set "problems.seed=$5" > "$out/$1.jsonl"
}

mkdir -p "$out"
# The recipes name a synthetic family; here the problems are files.
for name in grpo failure-prefix; do
    grep -v -E '^(synthetic|count|held_out) =' "$recipes/$name.toml" > "$out/$name.toml"
done
for seed in "$@"; do
    base=$out/base-$seed
    [ -d "$base" ] || "$toehold" pretrain --quiet --family chain-repair-long --seed "$seed" --out "$base"
    problems "saturated-$seed" 1 4 "${PROBLEMS:-96}" "$seed"
    problems "medium-$seed" 11 14 "${PROBLEMS:-96}" "$seed"
    problems "held-out-$seed" 11 14 96 "$((seed + 1000))"
    set=(--set "run.seed=$seed" --set "policy.model=\"$base\""
        --set "problems.held_out_file=\"$out/held-out-$seed.jsonl\""
        --set 'collect.until="max-attempts"' --set collect.max_attempts=32
        --set collect.temperature=1.0 --set collect.max_tokens=240
        --set train.flops="$flops" --set train.starts=32 --set train.group=16
        --set "train.learning_rate=${RATE:-1e-4}" --set train.max_tokens=240 --set 'train.keep="none"'
        --set evaluate.samples=1 --set evaluate.curve_samples=32 --set evaluate.every=0 --set evaluate.max_tokens=240
        --set 'evaluate.prefix_sweep=[]' --set 'evaluate.k=[1]' --set objective.clip_low=0.2 --set objective.clip_high=0.4)
    saturated=(--set "problems.file=\"$out/saturated-$seed.jsonl\"")
    # The collection is of the base, the problems and the seed alone, so the three targets share it.
    shared=$out/collection-$seed/failure-prefix/traces.db
    "$toehold" sample "$out/failure-prefix.toml" --quiet "${set[@]}" "${saturated[@]}" \
        --set "run.folder=\"$out/collection-$seed\""
    mkdir -p "$out/seed-$seed"
    for arm in plain medium 0.25 0.5 0.75; do
        recipe=$out/grpo.toml
        method=("${saturated[@]}")
        case $arm in
        plain) ;;
        medium) method=(--set "problems.file=\"$out/medium-$seed.jsonl\"") ;;
        *)
            recipe=$out/failure-prefix.toml
            method+=(--set curriculum.saturated=0.9 --set "curriculum.target=$arm"
                --set curriculum.low=0.1 --set curriculum.high=0.9)
            ;;
        esac
        run=$out/seed-$seed/$arm
        [ ! -e "$run/evaluation.json" ] || continue
        if [ "$recipe" = "$out/failure-prefix.toml" ] && [ ! -e "$run/traces.db" ]; then
            mkdir -p "$run"
            cp "$shared" "$run/traces.part"
            mv "$run/traces.part" "$run/traces.db"
        fi
        start=$(date +%s)
        "$toehold" run "$recipe" --quiet "${set[@]}" "${method[@]}" \
            --set "run.folder=\"$out/seed-$seed\"" --set "run.name=\"$arm\"" > "$run.txt"
        echo "seed $seed, $arm: $(($(date +%s) - start)) s"
    done
done

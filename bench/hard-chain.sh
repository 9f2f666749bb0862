#!/usr/bin/env bash
# The experiment of docs/results.md: PrefixRL, plain RL and SFT-then-RL on hard chain problems, each
# seed with its own base, problems and collection, all methods stopped at the same FLOPs.
#
#   bench/hard-chain.sh OUT FAMILY SEED...        FAMILY: two (methods) or one
#
# Runs one seed after the other; start it twice with other seeds to use two cores. It can be stopped
# and started again. `toehold report OUT/seed-*/*` then compares over seeds.
set -euo pipefail
out=$1
family=$2
shift 2
toehold=${TOEHOLD:-target/release/toehold}
recipes=$(dirname "$0")/../recipes

for seed in "$@"; do
    base=$out/base-$seed
    set=(--set "run.folder=\"$out/seed-$seed\"" --set "run.seed=$seed" --set "problems.seed=$seed"
        --set "policy.model=\"$base\"" --set 'train.keep="none"')
    if [ "$family" = one ]; then
        kind=chain-one-method
        set+=(--set 'problems.synthetic={ family = "chain", modulus = 4, operands = 1, steps = [8, 8], methods = "one" }'
            --set train.flops=6e12)
    else
        kind=chain
    fi
    [ -d "$base" ] || "$toehold" pretrain --quiet --family "$kind" --seed "$seed" --out "$base"
    # The collection is of the base, the problems and the seed alone, so the methods share it.
    for method in prefix-rl sft-then-rl plain-rl; do
        folder=$out/seed-$seed/$method
        rate=()
        # The recipes' rates are those for two methods; each was chosen on seed 7 (docs/log.md).
        if [ "$family" = one ]; then
            case $method in
            prefix-rl | sft-then-rl) rate=(--set train.learning_rate=8e-4) ;;
            plain-rl) rate=(--set train.learning_rate=4e-4) ;;
            esac
        fi
        if [ "$method" != prefix-rl ] && [ ! -e "$folder/traces.db" ]; then
            mkdir -p "$folder"
            cp "$out/seed-$seed/prefix-rl/traces.db" "$folder/traces.part"
            mv "$folder/traces.part" "$folder/traces.db"
        fi
        "$toehold" run "$recipes/$method.toml" --quiet "${set[@]}" "${rate[@]}"
    done
done

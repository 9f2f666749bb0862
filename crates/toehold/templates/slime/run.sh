#!/usr/bin/env bash
# Trains. Arguments are slime's own and come last, so they win: SHAPE=qwen3-8B bash run.sh --max-tokens-per-gpu 16384
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
# Where slime's image has them.
slime=${SLIME:-/root/slime}
megatron=${MEGATRON:-/root/Megatron-LM}
model=${MODEL:-{{ model }}}
# Megatron does not read a model's shape from its files: slime has it in scripts/models.
shape=$slime/scripts/models/${SHAPE:?names a file of scripts/models in slime, such as qwen3-8B}.sh
[ -f "$shape" ] || { echo "there is no $shape: SLIME names slime's folder, SHAPE a file of its scripts/models" >&2; exit 1; }
set +u
. "$shape"
set -u
# slime begins at a checkpoint in Megatron's form, which it makes from the model's folder.
reference=${REFERENCE:-$here/reference}
if [ ! -e "$reference/latest_checkpointed_iteration.txt" ]; then
  (cd "$slime" && PYTHONPATH="$megatron" "${PYTHON:-python}" tools/convert_hf_to_torch_dist.py \
    "${MODEL_ARGS[@]}" --hf-checkpoint "$model" --save "$reference")
fi
{% include "verifier.sh" %}
ray status >/dev/null 2>&1 || ray start --head --num-gpus "${GPUS:-{{ gpus }}}" --disable-usage-stats
# Every worker imports toehold_slime by its name, so this folder has to be where all machines see it.
workers="{\"env_vars\": {\"PYTHONPATH\": \"$here:$megatron\", \"CUDA_DEVICE_MAX_CONNECTIONS\": \"1\", \
\"TOEHOLD_VERIFIER\": \"${TOEHOLD_VERIFIER:-http://127.0.0.1:8643}\"}}"
cd "$slime"
ray job submit --address "${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265}" --runtime-env-json "$workers" -- \
  "${PYTHON:-python}" train.py \
  "${MODEL_ARGS[@]}" \
  --hf-checkpoint "$model" \
  --ref-load "$reference" \
  --load "$here/out" \
  --save "$here/out" \
  --prompt-data "$here/train.jsonl" \
  --eval-prompt-data {{ validation }} "$here/{{ validation }}.jsonl" \
  --input-key prompt \
  --label-key label \
  --metadata-key metadata \
  --custom-generate-function-path toehold_slime.generate \
  --custom-rm-path toehold_slime.reward \
  --colocate \
  --actor-num-nodes "${NODES:-{{ nodes }}}" \
  --actor-num-gpus-per-node "${GPUS:-{{ gpus }}}" \
  --num-gpus-per-node "${GPUS:-{{ gpus }}}" \
  --tensor-model-parallel-size "${TENSOR_PARALLEL:-1}" \
  --rollout-num-gpus-per-engine "${TENSOR_PARALLEL:-1}" \
  --attention-dropout 0.0 \
  --hidden-dropout 0.0 \
  --accumulate-allreduce-grads-in-fp32 \
  --attention-softmax-in-fp32 \
{%- for setting in settings %}
  --{{ setting[0] }}{% if setting[1] != "true" %} {{ setting[1] }}{% endif %} \
{%- endfor %}
  "$@"

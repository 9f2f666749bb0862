#!/usr/bin/env bash
# Trains. Arguments are OpenRLHF's own and come last, so they win: bash run.sh --train.num_episodes 4
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
{% include "verifier.sh" %}
"${PYTHON:-python}" -m openrlhf.cli.train_ppo_ray \
  --data.prompt_dataset "$here/train.jsonl" \
  --data.input_key input \
  --data.label_key label \
  --actor.model_name_or_path "${MODEL:-{{ model }}}" \
  --reward.remote_url "$here/toehold_reward.py" \
  --actor.num_nodes "${NODES:-{{ nodes }}}" \
  --actor.num_gpus_per_node "${GPUS:-{{ gpus }}}" \
  --ref.num_nodes "${NODES:-{{ nodes }}}" \
  --ref.num_gpus_per_node "${GPUS:-{{ gpus }}}" \
  --vllm.num_engines "${GPUS:-{{ gpus }}}" \
  --train.colocate_all \
  --vllm.enable_sleep \
  --ds.enable_sleep \
  --ckpt.output_dir "$here/out" \
{%- for setting in settings %}
  --{{ setting[0] }} {{ setting[1] }} \
{%- endfor %}
  "$@"

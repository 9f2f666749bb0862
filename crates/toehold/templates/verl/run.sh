#!/usr/bin/env bash
# Trains. Arguments are verl's own overrides and come last, so they win: bash run.sh trainer.nnodes=4
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
# Every worker imports the agent loop by its module's name, so this folder has to be where all machines see it.
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
{% include "verifier.sh" %}
"${PYTHON:-python}" -m verl.trainer.main_ppo \
  data.train_files="$here/train.parquet" \
  data.val_files="$here/{{ validation }}.parquet" \
  actor_rollout_ref.model.path="${MODEL:-{{ model }}}" \
  actor_rollout_ref.rollout.name="${ENGINE:-vllm}" \
  actor_rollout_ref.rollout.agent.agent_loop_config_path="$here/agent_loop.yaml" \
  reward.custom_reward_function.path="$here/toehold_reward.py" \
  ++ray_kwargs.ray_init.runtime_env.env_vars.PYTHONPATH="'$PYTHONPATH'" \
  ++ray_kwargs.ray_init.runtime_env.env_vars.TOEHOLD_VERIFIER="'${TOEHOLD_VERIFIER:-http://127.0.0.1:8643}'" \
  trainer.n_gpus_per_node="${GPUS:-{{ gpus }}}" \
  trainer.nnodes="${NODES:-{{ nodes }}}" \
  trainer.default_local_dir="$here/out" \
  trainer.rollout_data_dir="$here/out/rollouts" \
  trainer.project_name=toehold \
  trainer.experiment_name={{ name }} \
  trainer.logger='["console","file"]' \
{%- for setting in settings %}
  {{ setting[0] }}={{ setting[1] }} \
{%- endfor %}
  "$@"

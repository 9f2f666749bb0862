#!/usr/bin/env bash
# Trains. Arguments go to train.py; on several GPUs: LAUNCH="accelerate launch --num_processes 8" bash run.sh --vllm
set -euo pipefail
cd "$(dirname "$0")"
{% include "verifier.sh" %}
${LAUNCH:-${PYTHON:-python}} train.py "$@"

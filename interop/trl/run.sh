#!/usr/bin/env bash
# A job that toehold exports trains 20 steps under TRL 1.16.0 on a CPU, with toehold's reward.
#     bash interop/trl/run.sh [FOLDER]
# Makes a Python environment from PyPI in FOLDER (a temporary one without it), unless PYTHON names one that has
# TRL. The reward comes from `toehold verify --serve`, which the job starts itself.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=${1:-$(mktemp -d)}
mkdir -p "$work" && work=$(cd "$work" && pwd)
. "$root/interop/run.sh"
make_run
rm -rf job
"$TOEHOLD" export --to trl recipe.toml job
if [ -z "${PYTHON:-}" ]; then
  python3 -m venv venv
  venv/bin/pip install --quiet --extra-index-url https://download.pytorch.org/whl/cpu -r job/requirements.txt
  PYTHON=$work/venv/bin/python
fi
export PYTHON TRL_EXPERIMENTAL_SILENCE=1 HF_HUB_OFFLINE=1
bash job/run.sh --cpu --max-steps 20
"$PYTHON" "$root/interop/trl/read_log.py" job/out/log.json
"$TOEHOLD" import job/out/completions --into recipe.toml --format trl --policy trl-run
"$TOEHOLD" --quiet import job/out/completions --into recipe.toml --format trl --policy trl-run

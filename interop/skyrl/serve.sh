#!/usr/bin/env bash
# SkyRL's server of the Tinker API on the processor, in a virtual environment of its own from PyPI.
#
#   interop/skyrl/serve.sh VENV BASE PORT [KEPT]
#
# BASE is a model folder; the server's name for it is what is written here. It runs until it is stopped. Its
# database and checkpoints are in KEPT, or in a folder that goes with it. BACKEND_CONFIG is for the backend, as JSON.
set -euo pipefail
venv=$1
base=$2
port=$3
here=$(cd "$(dirname "$0")" && pwd)
[ -e "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import jax, skyrl.tinker' 2> /dev/null || "$venv/bin/pip" install --quiet 'skyrl[tinker,jax]==0.3.0' typing_extensions
export PATH=$here/shim:$(cd "$venv" && pwd)/bin:$PATH PYTHONPATH=$here/shim JAX_PLATFORMS=cpu HF_HUB_OFFLINE=1
if [ $# -gt 3 ]; then
    mkdir -p "$4"
    kept=$(cd "$4" && pwd)
    trap 'kill "$server" 2> /dev/null; wait' EXIT
else
    kept=$(mktemp -d)
    trap 'kill "$server" 2> /dev/null; wait; rm -rf "$kept"' EXIT
fi
# jax compiles anew for every shape, so sampling is filled up to 32 prompts and traces are learnt 8 at a time, which is
# the group of recipe.toml: other numbers of traces work, and are compiled for. The default has room for 32 adapters,
# and computes with it.
default='{"max_lora_adapters": 4, "max_lora_rank": 8, "sample_max_num_sequences": 32, "train_micro_batch_size": 8}'
uv run -m skyrl.tinker.api --base-model "$base" --backend jax \
    --backend-config "${BACKEND_CONFIG:-$default}" --host 127.0.0.1 --port "$port" \
    --checkpoints-base "$kept/checkpoints" --database-url "sqlite:///$kept/tinker.db" &
server=$!
wait "$server"

#!/usr/bin/env bash
# SkyRL's server of the Tinker API on the processor, in a virtual environment of its own from PyPI.
#
#   interop/skyrl/serve.sh VENV BASE PORT
#
# BASE is a model folder; the server's name for it is what is written here. It runs until it is stopped, and
# keeps its database and checkpoints in a folder that goes with it.
set -euo pipefail
venv=$1
base=$2
port=$3
here=$(cd "$(dirname "$0")" && pwd)
[ -e "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import jax, skyrl.tinker' 2> /dev/null || "$venv/bin/pip" install --quiet 'skyrl[tinker,jax]==0.3.0' typing_extensions
export PATH=$here/shim:$(cd "$venv" && pwd)/bin:$PATH PYTHONPATH=$here/shim JAX_PLATFORMS=cpu HF_HUB_OFFLINE=1
kept=$(mktemp -d)
trap 'kill "$server" 2> /dev/null; wait; rm -rf "$kept"' EXIT
uv run -m skyrl.tinker.api --base-model "$base" --backend jax --host 127.0.0.1 --port "$port" \
    --checkpoints-base "$kept/checkpoints" --database-url "sqlite:///$kept/tinker.db" &
server=$!
wait "$server"

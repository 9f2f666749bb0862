#!/usr/bin/env bash
# A job that toehold exports, held against verl 0.9.1's own code on a CPU: no training, no GPU.
#     bash interop/verl/run.sh [FOLDER]
# Makes a Python environment from PyPI in FOLDER (a temporary one without it), unless PYTHON names one that has verl.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=${1:-$(mktemp -d)}
mkdir -p "$work" && work=$(cd "$work" && pwd)
. "$root/interop/run.sh"
make_run
rm -rf job dumps
"$TOEHOLD" export --to verl recipe.toml job
if [ -z "${PYTHON:-}" ]; then
  python3 -m venv venv
  venv/bin/pip install --quiet --extra-index-url https://download.pytorch.org/whl/cpu verl==0.9.1 torch transformers
  PYTHON=$work/venv/bin/python
fi
# What run.sh would hand to verl, told by a stand-in for Python that writes its arguments down.
cat > arguments.sh <<'EOF'
#!/usr/bin/env bash
[ "$1" = -c ] || printf '%s\n' "${@:3}" > "$ARGUMENTS"
EOF
chmod +x arguments.sh
ARGUMENTS=$work/arguments.txt PYTHON=$work/arguments.sh bash job/run.sh trainer.n_gpus_per_node=1
port=8644
"$TOEHOLD" verify --serve 127.0.0.1:$port &
trap 'kill $! 2>/dev/null || true' EXIT
export TOEHOLD_VERIFIER=http://127.0.0.1:$port HF_HUB_OFFLINE=1
PYTHONPATH=$work/job:${PYTHONPATH:-} "$PYTHON" "$root/interop/verl/check.py" job arguments.txt dumps
"$TOEHOLD" import dumps --into recipe.toml --format verl --policy verl-run
"$TOEHOLD" --quiet import dumps --into recipe.toml --format verl --policy verl-run

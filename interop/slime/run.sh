#!/usr/bin/env bash
# A job that toehold exports for slime, as far as it goes without slime, of which PyPI has no release: the command line, the
# rows, the generate function and the reward, against stand-ins for slime's modules and for Ray. slime's own code does
# not run here.
#     bash interop/slime/run.sh [FOLDER]
# PYTHON names a Python with `transformers`.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=${1:-$(mktemp -d)}
mkdir -p "$work" && work=$(cd "$work" && pwd)
. "$root/interop/run.sh"
make_run
rm -rf job stand-ins reference
"$TOEHOLD" export --to slime recipe.toml job
# What slime's folder and Ray would be asked for, written down line by line.
mkdir -p stand-ins/bin stand-ins/slime/scripts/models reference
echo 'MODEL_ARGS=(--num-layers 2 --hidden-size 64)' > stand-ins/slime/scripts/models/tiny.sh
cat > stand-ins/bin/ray <<'EOS'
#!/usr/bin/env bash
[ "$1" = job ] && printf '%s\n' "$@" > "$WRITTEN/ray.txt" || true
EOS
cat > stand-ins/bin/python <<'EOS'
#!/usr/bin/env bash
[ "$1" = -c ] || printf '%s\n' "$@" > "$WRITTEN/conversion.txt"
EOS
chmod +x stand-ins/bin/*
WRITTEN=$work/stand-ins PATH=$work/stand-ins/bin:$PATH SLIME=$work/stand-ins/slime SHAPE=tiny PYTHON=python \
  bash job/run.sh --max-tokens-per-gpu 16384
port=8646
"$TOEHOLD" verify --serve 127.0.0.1:$port &
trap 'kill $! 2>/dev/null || true' EXIT
TOEHOLD_VERIFIER=http://127.0.0.1:$port HF_HUB_OFFLINE=1 PYTHONPATH=$work/job:${PYTHONPATH:-} \
  "${PYTHON:-python3}" "$root/interop/slime/check.py" job stand-ins

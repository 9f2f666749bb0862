#!/usr/bin/env bash
# A job that toehold exports, held against OpenRLHF 0.11.2's own argument parser, data reader and reward call. No
# training: OpenRLHF needs GPUs.
#     bash interop/openrlhf/run.sh [FOLDER]
# PYTHON names a Python with `transformers`; OpenRLHF's wheel is fetched without its dependencies.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=${1:-$(mktemp -d)}
mkdir -p "$work" && work=$(cd "$work" && pwd)
. "$root/interop/run.sh"
make_run
rm -rf job
"$TOEHOLD" export --to openrlhf recipe.toml job
if [ ! -d openrlhf ]; then
  pip download --quiet --no-deps --dest wheel openrlhf==0.11.2
  python3 -m zipfile -e wheel/openrlhf-0.11.2*.whl unpacked
  cp -r unpacked/openrlhf-0.11.2.data/purelib/openrlhf openrlhf
fi
cat > arguments.sh <<'EOF'
#!/usr/bin/env bash
[ "$1" = -c ] || printf '%s\n' "${@:3}" > "$ARGUMENTS"
EOF
chmod +x arguments.sh
ARGUMENTS=$work/arguments.txt PYTHON=$work/arguments.sh bash job/run.sh
port=8645
"$TOEHOLD" verify --serve 127.0.0.1:$port &
trap 'kill $! 2>/dev/null || true' EXIT
TOEHOLD_VERIFIER=http://127.0.0.1:$port HF_HUB_OFFLINE=1 \
  "${PYTHON:-python3}" "$root/interop/openrlhf/check.py" job arguments.txt openrlhf

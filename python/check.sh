#!/usr/bin/env bash
# Builds the wheel, installs it into a fresh environment, and runs its tests, doctests and type checks.
#     bash python/check.sh [FOLDER]      the environment and the wheel go there; a temporary one without it
# Needs Rust, Python 3.11 or newer and a package index. CARGO_TARGET_DIR is used where it is set.
set -euo pipefail
cd "$(dirname "$0")"
work=${1:-$(mktemp -d)}
python=${PYTHON:-python3}
"$python" -m venv --clear "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "maturin>=1.10,<2" pytest mypy
rm -rf "$work/wheels"
"$work/venv/bin/maturin" build --release --locked --out "$work/wheels" --interpreter "$work/venv/bin/python"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "$work"/wheels/*.whl
echo "== tests"
"$work/venv/bin/python" -m pytest
echo "== doctests"
"$work/venv/bin/python" -m pytest --doctest-modules --pyargs toehold
echo "== types"
"$work/venv/bin/mypy" --strict examples
"$work/venv/bin/mypy" --strict -p toehold
# The stub against the module as it was compiled.
"$work/venv/bin/stubtest" toehold._toehold
ls -l "$work"/wheels

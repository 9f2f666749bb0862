#!/usr/bin/env bash
# Math-Verify and toehold-verifier on the same table in one run: bench/verifier/run.sh [rounds of ours]
# Needs python3 and a network for the first run; the virtual environment is kept in $VENV.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv="${VENV:-.venv/verifier}"
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q -r bench/verifier/requirements.txt
fi
cargo build --release -q -p toehold-verifier --example throughput
program="${CARGO_TARGET_DIR:-target}/release/examples/throughput"
"$venv/bin/python" bench/verifier/compare.py crates/verifier/tests/data/cases.jsonl "$program" "${1:-20}"

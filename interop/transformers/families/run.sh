#!/usr/bin/env bash
# One recipe from end to end on a checkpoint of random weights of every family, with transformers as the judge of what
# was saved: the trained checkpoint is loaded there, and both say how likely what it writes is.
#
#   cargo build --release && interop/transformers/families/run.sh OUT PYTHON [FOLDER...]
#
# PYTHON has torch and transformers. FOLDERs are the fixtures where none is named. TOEHOLD names another program.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
toehold=${TOEHOLD:-$root/target/release/toehold}
python=$2
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift 2
[ $# -gt 0 ] || set -- "$root"/crates/policy/tests/data/*/
for folder in "$@"; do
    name=$(basename "$folder")
    rm -rf "${out:?}/$name"
    mkdir -p "$out/$name"
    cp -r "$folder" "$out/$name/model"
    cp "$here"/*.toml "$here"/*.jsonl "$out/$name"
    (cd "$out/$name" && "$toehold" run recipe.toml --quiet > printed.txt)
    checkpoint=$(echo "$out/$name"/runs/run/checkpoints/*)
    echo "$name: $(awk '$2 == "train" { printf "%s %s %% ", $1, $3 }' "$out/$name/printed.txt")of the attempts right"
    "$toehold" generate "$checkpoint" --prompt "1 + 1" -n 32 --max-tokens 24 --json |
        "$toehold" score "$checkpoint" | "$python" "$here/../scores.py" "$checkpoint"
done

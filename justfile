# The routine tasks, by name. `just` alone lists them.

default:
    @just --list

# What CI runs.
check:
    bash .ci/run

# The demo: problems, base, collection, three runs at the same compute, a table and a report.
demo *args:
    cargo run --release -- demo {{args}}

test *args:
    cargo test --release --workspace {{args}}

lint:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings

# The Python wheel: built, installed into a fresh environment, tested. Needs a package index.
python *args:
    bash python/check.sh {{args}}

docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

# Rewrites the expected texts of the tests; read the diff afterwards.
expect *args:
    UPDATE_EXPECT=1 cargo test --release --workspace {{args}}

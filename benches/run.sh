#!/usr/bin/env bash
# Prints rows a second and per CPU-second for publish, raw, bronze, silver and the whole, counted to
# the fsync. Arguments go to the harness: --rows, --batches, --changes, --folder.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"
exec "$target/debug/alluvium-benches" --alluvium "$target/debug/alluvium" "$@"

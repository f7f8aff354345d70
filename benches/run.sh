#!/usr/bin/env bash
# Runs the harness that `make bench` built: run.sh [compare|bus|flat|commits|index] [OPTION…].
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"
mode=compare
case "${1:-}" in
    compare | bus | flat | commits | index)
        mode="$1"
        shift
        ;;
esac
exec "$target/debug/alluvium-benches" "$mode" "$@"

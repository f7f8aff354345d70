#!/usr/bin/env bash
# Runs all tests, with nextest where it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --locked --workspace --all-features --no-fail-fast "$@"
fi
exec cargo test --locked --workspace --all-features --no-fail-fast "$@"

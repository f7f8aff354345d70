#!/bin/sh
# Makes the Python environment in which read_delta.py runs, and prints the interpreter's path.
# Run it as often as you like: it does nothing where everything is there.
set -eu

tools="${ALLUVIUM_TOOLS:-$HOME/.cache/alluvium/tools}"
venv="$tools/readers"
here="$(cd "$(dirname "$0")" && pwd)"
wanted="$here/requirements.txt"
stamp="$venv/installed.txt"

if ! cmp -s "$wanted" "$stamp"; then
    mkdir -p "$tools"
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$wanted" >&2
    # Written last and by rename: what broke off half-way is done again.
    cp "$wanted" "$stamp.new"
    mv "$stamp.new" "$stamp"
fi
echo "$venv/bin/python"

#!/bin/sh
# Becomes a peer: start.sh NAME FOLDER. Makes the Python environment that it needs first; what is
# there is not made twice.
set -eu

name="$1"
folder="$2"
here="$(cd "$(dirname "$0")" && pwd)"
tools="${ALLUVIUM_TOOLS:-$HOME/.cache/alluvium/tools}"

# DuckDB and delta-rs have the environment of the readers, with pyarrow added. The others bring many
# packages, each in an environment of its own.
case "$name" in
    duckdb | delta-rs)
        wanted="$here/requirements.txt"
        venv="$(dirname "$(dirname "$("$here/../../tests/readers/setup.sh")")")"
        stamp="$venv/peers.txt"
        ;;
    dlt | dbt)
        wanted="$here/requirements-$name.txt"
        venv="$tools/peer-$name"
        stamp="$venv/installed.txt"
        ;;
    *)
        echo "there is no peer $name: duckdb, delta-rs, dlt, dbt" >&2
        exit 2
        ;;
esac
if ! cmp -s "$wanted" "$stamp"; then
    mkdir -p "$tools"
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$wanted" >&2
    # Written last and by rename: what broke off half-way is done again.
    cp "$wanted" "$stamp.new"
    mv "$stamp.new" "$stamp"
fi
script="$(echo "$name" | tr - _)"
# The caches of compiled code stay out of the checkout.
export PYTHONDONTWRITEBYTECODE=1
exec "$venv/bin/python" "$here/peer_$script.py" "$folder"

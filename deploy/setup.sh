#!/usr/bin/env bash
# Installs what building and testing needs beside a Rust toolchain, on Debian or Ubuntu. Says what
# it does, does nothing twice, and asks for root only where something is missing.
set -euo pipefail

packages=()
need() { # need PROGRAM PACKAGE
    command -v "$1" >/dev/null 2>&1 || packages+=("$2")
}
need cc build-essential
need cmake cmake
need pkg-config pkg-config
need promtool prometheus
need nats-server nats-server
need strace strace
need openssl openssl
need python3 python3
need curl curl
pkg-config --exists openssl 2>/dev/null || packages+=(libssl-dev)
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || packages+=(postgresql)
python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || packages+=(python3-venv)

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: a Rust toolchain is needed: install rustup, then run this again" >&2
    exit 1
fi
if [ ${#packages[@]} -gt 0 ]; then
    echo "setup: installing ${packages[*]}" >&2
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    export DEBIAN_FRONTEND=noninteractive
    $sudo apt-get update -qq
    # The servers are only tools here: none is to start by itself, now or at the next boot.
    $sudo env RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
    if [ -d /run/systemd/system ]; then
        for unit in prometheus prometheus-node-exporter nats-server postgresql; do
            $sudo systemctl disable --now "$unit" >/dev/null 2>&1 || true
        done
    fi
fi

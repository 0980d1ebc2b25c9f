#!/bin/sh
# Builds a program of crates.io once, into target/tools: tool.sh NAME VERSION.
set -eu
cd "$(dirname "$0")/.."
tools=target/tools
if command -v "$1" >/dev/null || [ -x "$tools/bin/$1" ]; then
    exit 0
fi
echo "Building $1 into $tools"
# Built for the host as any tool, in a directory of its own: .cargo/config.toml is for our binaries. Optimized it would
# take three times as long.
cargo install --quiet --locked --debug --no-default-features --root "$tools" --target-dir "$tools/build" \
    "$1" --version "$2"
rm -rf "$tools/build"

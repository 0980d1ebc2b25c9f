#!/bin/sh
# Licences, sources and known vulnerabilities of all dependencies, by cargo-deny (deny.toml). It is built once, into
# target/tools. The database of vulnerabilities lies on GitHub: where that cannot be reached this part is skipped, aloud.
set -eu
tools=target/tools
if ! command -v cargo-deny >/dev/null && [ ! -x "$tools/bin/cargo-deny" ]; then
    echo "Building cargo-deny into $tools"
    # Built for the host as any tool, in a directory of its own: .cargo/config.toml is for our binaries.
    # Optimized it would take three times as long.
    cargo install --quiet --locked --debug --no-default-features --root "$tools" --target-dir "$tools/build" \
        cargo-deny --version 0.20.2
    rm -rf "$tools/build"
fi
PATH="$PWD/$tools/bin:$PATH"
cargo deny --offline check --hide-inclusion-graph licenses sources bans
if cargo deny fetch db >/dev/null 2>&1; then
    cargo deny check advisories
else
    echo "SKIPPED advisories: the advisory database cannot be fetched here; run scripts/deny.sh where GitHub can be reached"
fi

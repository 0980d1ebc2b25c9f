#!/bin/sh
# Licences, sources and known vulnerabilities of all dependencies, by cargo-deny (deny.toml). It is built once, into
# target/tools. The database of vulnerabilities lies on GitHub: where that cannot be reached this part is skipped, aloud.
set -eu
tools=target/tools
scripts/tool.sh cargo-deny 0.20.2
PATH="$PWD/$tools/bin:$PATH"
cargo deny --offline check --hide-inclusion-graph licenses sources bans
if cargo deny fetch db >/dev/null 2>&1; then
    cargo deny check advisories
else
    echo "SKIPPED advisories: the advisory database cannot be fetched here; run scripts/deny.sh where GitHub can be reached"
fi

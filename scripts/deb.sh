#!/bin/sh
# Makes a Debian package out of binaries that are built: deb.sh PROFILE OUTPUT [VERSION]. cargo-deb is built once, into
# target/tools.
set -eu
cd "$(dirname "$0")/.."
profile=$1 output=$2 version=${3:-}
tools=target/tools
staged=target/deb
scripts/tool.sh cargo-deb 3.8.0
hypeman=target/x86_64-unknown-linux-gnu/$([ "$profile" = dev ] && echo debug || echo "$profile")/hypeman
rm -rf "$staged"
mkdir -p "$staged/units" "$staged/man"
"$hypeman" man "$staged/man"
for shell in bash zsh fish; do
    "$hypeman" completion "$shell" >"$staged/hypeman.$shell"
done
for unit in hypeman.service hypeman.socket hypeman-resume.service; do
    sed 's|@BINDIR@|/usr/bin|' "packaging/$unit" >"$staged/units/$unit"
done
PATH="$PWD/$tools/bin:$PATH" cargo deb --quiet --package hypeman --no-build --target x86_64-unknown-linux-gnu --profile "$profile" --fast \
    --output "$output" ${version:+--deb-version "$version"}

#!/bin/sh
# Puts Prometheus' promtool into target/tools, out of Debian's package: installed, that would start a daemon.
set -eu
cd "$(dirname "$0")/.."
tool=target/tools/bin/promtool
[ ! -x "$tool" ] || exit 0
echo "Fetching promtool from Debian"
mkdir -p target/tools/bin
unpacked=$(mktemp -d target/tools/prometheus.XXXXXX)
trap 'rm -rf "$unpacked"' EXIT
(cd "$unpacked" && apt-get -o APT::Sandbox::User=root download --quiet prometheus >/dev/null && dpkg-deb --extract prometheus_*.deb .)
mv "$unpacked/usr/bin/promtool" "$tool"

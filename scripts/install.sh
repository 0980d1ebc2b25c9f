#!/bin/sh
# Installs what the demo and the tests need and this machine lacks; says so first. Without the rights to install it
# prints the one command that would, and stops. Usage: install.sh PACKAGE...
set -eu

missing=""
for package in "$@"; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

# No recommended packages: QEMU's would bring a desktop.
command="apt-get install --yes --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    sudo=""
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }; }; then
    sudo=sudo
else
    echo "These packages are missing, and installing them needs root:$missing" >&2
    echo "Run this, and then again what you ran:" >&2
    echo "    sudo sh -c 'apt-get update && $command'" >&2
    exit 1
fi
echo "Installing from Debian:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { $sudo apt-get update --quiet && DEBIAN_FRONTEND=noninteractive $sudo $command; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "Installing failed; the output of apt-get is above." >&2
    exit 1
fi

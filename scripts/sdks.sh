#!/bin/sh
# Installs upstream's published clients below target/sdk, as tests/sdk pins them. What is there is left as it is.
set -eu
cd "$(dirname "$0")/.."
python=target/sdk/python
js=target/sdk/js
pins=tests/sdk

if ! cmp --silent "$pins/python/requirements.txt" "$python/requirements.txt"; then
    echo "Installing upstream's Python client"
    rm -rf "$python"
    python3 -m venv "$python"
    "$python/bin/pip" install --quiet --disable-pip-version-check --requirement "$pins/python/requirements.txt"
    cp "$pins/python/requirements.txt" "$python/"
fi
if ! cmp --silent "$pins/js/package-lock.json" "$js/installed"; then
    echo "Installing upstream's npm client"
    rm -rf "$js"
    mkdir -p "$js"
    cp "$pins/js/package.json" "$pins/js/package-lock.json" "$js/"
    (cd "$js" && npm ci --silent --no-audit --no-fund --ignore-scripts)
    cp "$pins/js/package-lock.json" "$js/installed"
fi

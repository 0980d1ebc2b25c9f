#!/bin/sh
# The HTTP API with curl. Wants HYPEMAN_BASE_URL and HYPEMAN_API_KEY.
set -eu

ask() {
    method=$1 path=$2
    shift 2
    curl --fail-with-body --silent --show-error --request "$method" "$HYPEMAN_BASE_URL$path" \
        --header "Authorization: Bearer $HYPEMAN_API_KEY" --header 'Content-Type: application/json' "$@"
}

# Make an instance and start it. Its image is pulled if it is not here.
ask POST /instances --data '{
    "name": "clock",
    "image": "'"${IMAGE:-debian:12}"'",
    "cmd": ["sh", "-c", "while date; do sleep 1; done"],
    "tags": {"team": "docs"},
    "network": {"enabled": false}
}'

# Wait until its program runs, and read its log.
ask GET '/instances/clock/wait?state=Running&timeout=2m'
ask GET '/instances/clock/logs?tail=10'

# Let it sleep on disk, and go on.
ask POST /instances/clock/standby
ask POST /instances/clock/restore

# List what has the tag, and remove it.
ask GET '/instances?tags%5Bteam%5D=docs'
ask DELETE /instances/clock

#!/usr/bin/env bash
# Publish the newest lists into the online store, then run the stream and the service until Ctrl-C, or until one ends.
# Usage: scripts/serve.sh PYTHON --config FILE [--set a.b=c]...
set -euo pipefail
cd "$(dirname "$0")/.."

python="$1"
shift

"$python" -m recsys_spark.online publish "$@"

children=()
stop() {
    trap - INT TERM EXIT
    kill -TERM "${children[@]}" 2>/dev/null || true
    wait || true
}
trap 'stop; exit 0' INT TERM
trap stop EXIT

# In sessions of their own: Ctrl-C then reaches this script alone, which ends both in order.
setsid "$python" jobs/update_online.py "$@" &
children+=($!)
setsid "$python" -m recsys_spark.serving "$@" &
children+=($!)

wait -n

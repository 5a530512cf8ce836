#!/usr/bin/env bash
# Install what the tests of the online store on Redis need where that is possible (as root on Debian or Ubuntu); else say
# that they are skipped.
set -euo pipefail

if command -v redis-server >/dev/null; then
    exit 0
fi

if [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; then
    echo "redis-server not found: installing it with apt-get" >&2
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends redis-server; } >&2 || true
fi

command -v redis-server >/dev/null || echo "redis-server is not installed (sudo apt-get install redis-server): the" \
    "tests of the online store on Redis will be skipped" >&2

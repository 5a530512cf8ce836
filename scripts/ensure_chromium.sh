#!/usr/bin/env bash
# Install what the tests of the page in a browser need where that is possible (as root on Debian or Ubuntu); else say that
# they are skipped.
set -euo pipefail

there() {
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null
}

if there; then
    exit 0
fi

if [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; then
    echo "chromium not found: installing it with apt-get" >&2
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } >&2 || true
fi

there || echo "chromium is not installed (sudo apt-get install chromium): the tests of the service's page in a browser" \
    "will be skipped" >&2

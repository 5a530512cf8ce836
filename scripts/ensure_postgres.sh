#!/usr/bin/env bash
# Install what the JDBC tests need where that is possible (as root on Debian or Ubuntu); else say that they are skipped.
set -euo pipefail

JAR="${POSTGRESQL_JAR:-/usr/share/java/postgresql.jar}"

there() {
    { compgen -G "/usr/lib/postgresql/*/bin/initdb" || command -v initdb; } >/dev/null && [[ -e "$JAR" ]]
}

if there; then
    exit 0
fi

if [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; then
    echo "PostgreSQL or its JDBC driver not found: installing both with apt-get" >&2
    {
        apt-get update &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql libpostgresql-jdbc-java
    } >&2 || true
fi

there || echo "PostgreSQL and its JDBC driver are not installed (sudo apt-get install postgresql" \
    "libpostgresql-jdbc-java): the tests on a real database will be skipped" >&2

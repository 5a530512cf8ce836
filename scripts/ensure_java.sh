#!/usr/bin/env bash
# Prints the home of a Java 17 or 21: JAVA_HOME, the one on the PATH, or one in the usual folders.
# Where there is none it is installed (root on Debian or Ubuntu), or a line says how to install it (exit code 2).
set -euo pipefail

home_if_fit() { # prints the home of the java program "$1" if it is version 17 or 21
    local settings version
    settings="$("$1" -XshowSettings:properties -version 2>&1)" || return 1
    version="$(sed -n 's/^ *java\.specification\.version = //p' <<<"$settings")"
    [[ "$version" == 17 || "$version" == 21 ]] || return 1
    sed -n 's/^ *java\.home = //p' <<<"$settings"
}

find_java() {
    local candidate
    for candidate in "${JAVA_HOME:+$JAVA_HOME/bin/java}" "$(command -v java || true)" \
        /usr/lib/jvm/*/bin/java /Library/Java/JavaVirtualMachines/*/Contents/Home/bin/java; do
        if [[ -x "$candidate" ]] && home_if_fit "$candidate"; then
            return 0
        fi
    done
    return 1
}

if find_java; then
    exit 0
fi

if [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; then
    echo "Java 17 or 21 not found: installing Java 17 with apt-get" >&2
    {
        apt-get update
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends openjdk-17-jre-headless ||
            DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends openjdk-21-jre-headless
    } >&2
    find_java && exit 0
fi

echo "Java 17 or 21 not found: install it (Debian or Ubuntu: sudo apt-get install openjdk-17-jre-headless;" \
    "Fedora: sudo dnf install java-21-openjdk-headless; macOS: brew install openjdk@17), or set JAVA_HOME" >&2
exit 2

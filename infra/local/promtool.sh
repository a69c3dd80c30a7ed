#!/usr/bin/env bash
# Puts promtool, of Debian's package `prometheus`, into FOLDER: without root, where apt can be asked.
#   promtool.sh FOLDER
# Nothing but a line is lost where it cannot be had: alert rules are then tested by the evaluation inside only.
set -euo pipefail
folder=$(cd "$1" && pwd)

if command -v promtool > /dev/null || [ -x "$folder/promtool" ]; then
    exit 0
fi
missing() {
    echo "promtool could not be had ($1): alert rules are tested by the evaluation inside only" >&2
    exit 0
}
command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null || missing "no apt here; install prometheus"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
timeout 60 apt-get --quiet download prometheus > log 2>&1 || missing "apt-get download prometheus: $(tail -n 1 log)"
mkdir package
dpkg-deb --extract ./prometheus_*.deb package 2> log || missing "the package cannot be read: $(tail -n 1 log)"
package/usr/bin/promtool --version > /dev/null 2> log || missing "it does not run here: $(tail -n 1 log)"
mv package/usr/bin/promtool "$folder/promtool"

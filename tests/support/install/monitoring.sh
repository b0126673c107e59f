#!/usr/bin/env bash
# Puts Prometheus, Alertmanager and postgres_exporter of another Debian suite into a folder of its own: nothing is installed.
#   monitoring.sh SUITE FOLDER
# Programs are in FOLDER/bin, to be put in front of PATH. They are linked to libc alone, and an older one than their own does.
set -euo pipefail
umask 022
[ $# -eq 2 ] || { echo "usage: ${0##*/} SUITE FOLDER" >&2; exit 2; }
target=$(realpath -m "$2")
[ ! -e "$target" ] || { echo "$target exists" >&2; exit 1; }
new=$target.new
# shellcheck source=tests/support/install/suites.sh
. "$(dirname "$0")/suites.sh"
use_suites "$1"
packages=(prometheus prometheus-alertmanager prometheus-postgres-exporter)
# Newer suites have it in a package of its own.
if [ -n "$(apt-cache "${options[@]}" search --names-only '^promtool$')" ]; then packages+=(promtool); fi
rm -rf "$new"
mkdir -p "$new"
unpack_into "$new" "${packages[@]}"
cd "$new"
mv usr/bin bin
rm -rf etc lib usr var
for program in prometheus promtool prometheus-alertmanager amtool prometheus-postgres-exporter; do
  "bin/$program" --version >/dev/null 2>&1 || { echo "$program of $1 does not run here" >&2; exit 1; }
done
cd /
mv "$new" "$target"

#!/usr/bin/env bash
# Puts the consumers that are not PostgreSQL's own into a folder: a virtual environment and node_modules, of pinned versions.
#   install.sh PYTHON FOLDER
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: ${0##*/} PYTHON FOLDER" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
target=$(realpath -m "$2")
wanted=$(cat "$here/requirements.txt" "$here/package.json" | sha256sum)
if [ "$(cat "$target/installed-from" 2>/dev/null)" = "$wanted" ]; then exit; fi
echo "setup: installing Debezium, psycopg2 and pg-logical-replication" >&2
rm -rf "$target"
"$1" -m venv "$target"
"$target/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt" >&2
cp "$here/package.json" "$target/"
npm install --prefix "$target" --silent --no-audit --no-fund --no-package-lock >&2
printf '%s\n' "$wanted" > "$target/installed-from"

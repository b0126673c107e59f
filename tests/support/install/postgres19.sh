#!/usr/bin/env bash
# Puts PostgreSQL 19 from Debian's sid and experimental into a folder of its own, for an older Debian: nothing is installed.
#   postgres19.sh FOLDER
# Programs are in FOLDER/bin; the folder may be copied or moved.
set -euo pipefail
umask 022
[ $# -eq 1 ] || { echo "usage: ${0##*/} FOLDER" >&2; exit 2; }
target=$(realpath -m "$1")
[ ! -e "$target" ] || { echo "$target exists" >&2; exit 1; }
new=$target.new
# shellcheck source=tests/support/install/suites.sh
. "$(dirname "$0")/suites.sh"
use_suites sid experimental
# Experimental has 19 as long as it is not released; sid has the libraries.
printf 'Package: postgresql-19 postgresql-client-19 libpq5\nPin: release a=experimental\nPin-Priority: 600\n' > "$apt/preferences"

# The two packages and, of what they depend on, the libraries.
wanted=(postgresql-19 postgresql-client-19)
new_ones=("${wanted[@]}")
while [ ${#new_ones[@]} -gt 0 ]; do
  mapfile -t new_ones < <(apt-cache "${options[@]}" depends --important "${new_ones[@]}" |
    sed -nE 's/^ *\|?(Pre)?Depends: (lib[^ ]+|zlib1g)$/\2/p' | sort -u | grep -vxF -f <(printf '%s\n' "${wanted[@]}"))
  wanted+=("${new_ones[@]}")
done
rm -rf "$new"
mkdir -p "$new"
unpack_into "$new" "${wanted[@]}"
cd "$new"
find usr/share -mindepth 1 -maxdepth 1 ! -name postgresql -exec rm -rf {} +
rm -rf etc usr/sbin usr/libexec usr/lib/x86_64-linux-gnu/gconv

# This Debian's own loader and libc are too old for them, so each is started through the loader that came along.
mv usr/lib/postgresql/19/bin usr/lib/postgresql/19/programs
mkdir usr/lib/postgresql/19/bin
cat > usr/lib/postgresql/19/bin/.start <<'SH'
#!/bin/sh
case $0 in /*) program=$0 ;; *) program=$PWD/$0 ;; esac
here=${program%/*}
libraries=$here/../../../x86_64-linux-gnu
exec "$libraries/ld-linux-x86-64.so.2" --inhibit-cache --library-path "$libraries" --argv0 "$program" \
  "$here/../programs/${program##*/}" "$@"
SH
chmod 755 usr/lib/postgresql/19/bin/.start
for program in usr/lib/postgresql/19/programs/*; do
  # No link: the programs find their files from where theirs really is.
  cp usr/lib/postgresql/19/bin/.start "usr/lib/postgresql/19/bin/${program##*/}"
done
rm usr/lib/postgresql/19/bin/.start
ln -s usr/lib/postgresql/19/bin bin
bin/postgres --version >/dev/null
cd /
mv "$new" "$target"

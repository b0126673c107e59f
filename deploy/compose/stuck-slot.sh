#!/bin/sh
# Asks the standby of an idle primary for a logical slot, which hangs for good without help, and shows how it is healed.
# Takes about a minute; removes the slot at the end. Uses docker compose if it is installed, otherwise docker-compose.
set -eu

if docker compose version >/dev/null 2>&1; then compose="docker compose"; else compose=docker-compose; fi
compose=${COMPOSE:-$compose}
slot=stuck_$$
cd "$(dirname "$0")/../.."

query() { # service statement
    # shellcheck disable=SC2086 - the command may be two words
    $compose exec -T "$1" psql --no-psqlrc --quiet --tuples-only --no-align --username=postgres --command="$2" </dev/null
}

echo "Waiting until the primary has written nothing for 30 s: before that, its background writer could log the record itself."
# With nothing left to write out, no checkpoint comes in between either: it logs such a record, too.
query primary CHECKPOINT
quiet=0 before=
while [ "$quiet" -lt 30 ]; do
    now=$(query primary "SELECT pg_current_wal_insert_lsn()")
    if [ "$now" = "$before" ]; then quiet=$((quiet + 1)); else quiet=0; fi
    before=$now
    sleep 1
done

echo "Creating slot $slot on the standby. It hangs; PgSlotCreationWaiting fires within some seconds; the healer acts on it."
query standby "SELECT pg_create_logical_replication_slot('$slot', 'pgoutput')" &
creation=$!
started=$(date +%s) seconds=0
while kill -0 "$creation" 2>/dev/null; do
    if [ "$seconds" -ge 300 ]; then
        echo "Still hanging after $seconds s. See the alerts on http://localhost:9090/alerts and: $compose logs healer" >&2
        exit 1
    fi
    sleep 1
    seconds=$(($(date +%s) - started))
    if [ $((seconds % 10)) -eq 0 ]; then echo "hanging for $seconds s"; fi
done
wait "$creation"

# The healer has its verdict once it has looked again, which takes a moment.
tries=0
until $compose logs --no-color --tail=20 healer | grep -q "heal ended.*slot=\"*$slot" || [ "$tries" -ge 20 ]; do
    tries=$((tries + 1))
    sleep 0.5
done

echo "The slot is there after $seconds s. What the healer did:"
$compose logs --no-color --tail=8 healer
query standby "SELECT pg_drop_replication_slot('$slot')" >/dev/null

#!/bin/bash
# In place of the entrypoint of Docker's postgres image, does what its documentation says of it: an empty data directory is
# made with a password for the superuser, who may log in with it from everywhere; the scripts run against a server that
# listens on its socket only; then the command is run. The environment says where things are when there is no container:
# PGDATA, PGHOST (folder of the socket), PGPORT, INIT_SCRIPTS (a folder), LISTEN (in a container, where the stand-in of the
# image has it, too).
set -Eeuo pipefail

export POSTGRES_USER=${POSTGRES_USER:-postgres}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p -m 0700 "$PGDATA"
    initdb --pgdata="$PGDATA" --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth=trust \
        --encoding=UTF8 --locale=C --no-sync
    # initdb trusts loopback. Here all come from there, as they come from other containers otherwise: with a password.
    printf '%s\n' "local all all trust" "host all all all scram-sha-256" >"$PGDATA/pg_hba.conf"
    pg_ctl -D "$PGDATA" -w start -o "-c listen_addresses='' -c unix_socket_directories=$PGHOST -p $PGPORT ${*:2}"
    for script in "$INIT_SCRIPTS"/*.sh; do "$script"; done
    pg_ctl -D "$PGDATA" -w -m fast stop
fi

exec "$@" -c listen_addresses="${LISTEN:-127.0.0.1}" -c unix_socket_directories="$PGHOST" -p "$PGPORT"

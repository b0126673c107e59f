#!/bin/bash
# The standby's entrypoint: an empty data directory becomes a copy of the primary's, then the image's own entrypoint goes on.
# Runs as the image's postgres user. The tests, which run it without containers, give it other places in the environment.
set -Eeuo pipefail

primary=${PRIMARY_HOST:-primary}
port=${PRIMARY_PORT:-5432}
secrets=${SECRETS:-/run/secrets}
umask 077

# In the volume, beside the data. Written at each start, so that a new password needs no new copy; libpq wants it readable
# for its owner only, which a mounted secret is not.
passfile=$(dirname "$PGDATA")/standby.pgpass
mkdir -p "$(dirname "$PGDATA")"
printf '%s:%s:*:replicator:%s\n' "$primary" "$port" "$(cat "$secrets/replication-password")" >"$passfile"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # Into a directory beside it and then renamed: a copy that was interrupted is not taken for a whole one.
    rm -rf "$PGDATA" "$PGDATA.copy"
    # -R writes standby.signal, and primary_conninfo with the passfile's name instead of the password.
    pg_basebackup --pgdata="$PGDATA.copy" --write-recovery-conf --wal-method=stream --checkpoint=fast --slot=standby \
        --dbname="host=$primary port=$port user=replicator passfile=$passfile application_name=standby"
    mv "$PGDATA.copy" "$PGDATA"
fi

exec docker-entrypoint.sh "$@"

#!/bin/bash
# The standby's entrypoint: an empty data directory becomes a copy of the primary's, then the image's own entrypoint goes on.
# Starts as root, as the image does; everything in the data directory is done as postgres.
set -Eeuo pipefail

# In the postgres user's home, which is the volume. Written at each start, so that a new password needs no new copy;
# libpq wants it readable for its owner only, which a mounted secret is not.
passfile=/var/lib/postgresql/.pgpass
printf 'primary:5432:*:replicator:%s\n' "$(cat /run/secrets/replication-password)" |
    install -o postgres -g postgres -m 0600 /dev/stdin "$passfile"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # Into a directory beside it and then renamed: a copy that was interrupted is not taken for a whole one.
    rm -rf "$PGDATA" "$PGDATA.copy"
    install -d -o postgres -g postgres -m 0700 "$PGDATA.copy"
    # -R writes standby.signal, and primary_conninfo with the passfile's name instead of the password.
    gosu postgres pg_basebackup --pgdata="$PGDATA.copy" --write-recovery-conf --wal-method=stream --checkpoint=fast \
        --slot=standby --dbname="host=primary user=replicator passfile=$passfile application_name=standby"
    mv "$PGDATA.copy" "$PGDATA"
fi

exec docker-entrypoint.sh "$@"

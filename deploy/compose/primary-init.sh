#!/bin/bash
# Runs once, when the primary's data directory has just been made: the roles, and what the standby needs.
# The image's entrypoint runs it as the postgres user against a server that listens on its socket only. The tests, which
# run it without containers, give it another place for the secrets.
set -Eeuo pipefail

export SECRETS=${SECRETS:-/run/secrets}

psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --dbname postgres <<'SQL'
-- psql reads the passwords itself: they are in no command line.
\set exporter_password `cat "$SECRETS/exporter-password"`
\set healer_password `cat "$SECRETS/healer-password"`
\set replication_password `cat "$SECRETS/replication-password"`

-- The exporter only reads: all sessions, all settings, and the sizes of WAL files. Both roles are those of pg-slot-healer grants.
CREATE ROLE pgslot_exporter LOGIN PASSWORD :'exporter_password' IN ROLE pg_read_all_stats, pg_read_all_settings CONNECTION LIMIT 10;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir(), pg_catalog.pg_ls_archive_statusdir() TO pgslot_exporter;

-- The healer looks through the exporter's role, and may call this one function. The grant holds for this database only,
-- so its conninfo must name the same one.
CREATE ROLE pgslot_healer LOGIN PASSWORD :'healer_password' CONNECTION LIMIT 10;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO pgslot_healer;

-- The standby. Its own slot lets it come back after a night with the lid closed.
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'replication_password';
SELECT pg_catalog.pg_create_physical_replication_slot('standby');
SQL

# The image lets passwords in for every database, but "all" does not cover replication connections.
echo "host replication replicator all scram-sha-256" >>"$PGDATA/pg_hba.conf"

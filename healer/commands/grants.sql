-- The two roles of pg-slot-healer, each with the privileges that its work needs and no others.
-- For PostgreSQL 14 to 19. To run it again changes nothing.
--
-- Where: on the primary (standbys get it by replication), as a superuser, in the database that the conninfos of
-- exporter and healer name, such as postgres:
--
--     pg-slot-healer grants | psql -X -v ON_ERROR_STOP=1 -d postgres
--
-- The database matters: a privilege on a function holds in one database only. If exporter and healer connect to
-- different databases, run it in each.
--
-- Passwords are not in here. psql sets them so that neither its history nor the server's log has them:
--
--     \password :"exporter"
--     \password :"healer"
--
-- pg_hba.conf has to let both roles in: the exporter's from the machines of both programs to every node (the healer
-- queries the nodes through the exporter's conninfos), the healer's from its own machine to every node that can
-- become the primary.

BEGIN;

-- Nobody's search_path can put another function or table in place of the ones meant here.
SET LOCAL search_path = pg_catalog;
-- Without the notices about what is there already.
SET LOCAL client_min_messages = warning;

DO $pgslot$
DECLARE
  found record;
BEGIN
  -- CREATE ROLE has no IF NOT EXISTS. LOGIN is the only attribute: no superuser, no replication, no new roles or databases.
  -- The limit keeps a mistake from taking the connections that others need; a program takes one a node, so that ten are
  -- enough for several exporters and healers.
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'exporter') THEN
    CREATE ROLE :"exporter" LOGIN CONNECTION LIMIT 10;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'healer') THEN
    CREATE ROLE :"healer" LOGIN CONNECTION LIMIT 10;
  END IF;

  -- A role that was there before keeps its attributes. More than LOGIN is more than is needed.
  FOR found IN
    SELECT rolname FROM pg_catalog.pg_roles
    WHERE rolname IN (:'exporter', :'healer')
      AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
  LOOP
    RAISE WARNING 'role % has attributes that it does not need: see \du', found.rolname;
  END LOOP;

  -- Everybody may connect to every database unless that was revoked; here it may have been.
  EXECUTE pg_catalog.format(
    'GRANT CONNECT ON DATABASE %I TO %I, %I', pg_catalog.current_database(), :'exporter', :'healer'
  );
END
$pgslot$;

-- The exporter.
-- pg_read_all_stats: without it pg_stat_activity and pg_stat_wal_receiver show other roles' sessions blanked out: neither what a
-- slot creation waits for nor who blocks it.
-- pg_read_all_settings: without it primary_conninfo is hidden, and a standby that has lost its primary appears like one
-- that is fed from an archive.
GRANT pg_read_all_stats, pg_read_all_settings TO :"exporter";
-- pg_ls_waldir() and pg_ls_archive_statusdir(): names and sizes of WAL files, in this database only. Without them nobody sees
-- how large the WAL directory is and what keeps WAL in it; everything else works.
-- All of this is a part of pg_monitor, which would do as well. Nothing else of pg_monitor is needed: pg_stat_scan_tables may
-- lock tables, and other functions list other files of the server. If you cannot grant EXECUTE on these functions, as on most
-- managed services, omit the next statement and run: GRANT pg_monitor TO :"exporter";
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir(), pg_catalog.pg_ls_archive_statusdir() TO :"exporter";

-- The healer: this one function, which writes a running-xacts record of some 50 bytes into the WAL and does nothing else.
-- PostgreSQL has it from 16 on; before, there is nothing to grant, and the healer says server_too_old. After an upgrade to
-- 16 or later, run this again.
DO $pgslot$
BEGIN
  IF pg_catalog.to_regprocedure('pg_catalog.pg_log_standby_snapshot()') IS NOT NULL THEN
    GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO :"healer";
  END IF;
END
$pgslot$;

-- What holds now.
SELECT
  r.rolname AS role,
  pg_catalog.current_database() AS database,
  pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT') AS connects,
  pg_catalog.pg_has_role(r.oid, 'pg_read_all_stats', 'USAGE')
    AND pg_catalog.pg_has_role(r.oid, 'pg_read_all_settings', 'USAGE') AS sees_all_sessions,
  pg_catalog.has_function_privilege(r.oid, 'pg_catalog.pg_ls_waldir()', 'EXECUTE')
    AND pg_catalog.has_function_privilege(r.oid, 'pg_catalog.pg_ls_archive_statusdir()', 'EXECUTE') AS lists_wal,
  coalesce(
    pg_catalog.has_function_privilege(
      r.oid, pg_catalog.to_regprocedure('pg_catalog.pg_log_standby_snapshot()')::oid, 'EXECUTE'
    ),
    false
  ) AS forces_records
FROM pg_catalog.pg_roles r
WHERE r.rolname IN (:'exporter', :'healer')
ORDER BY r.rolname;

COMMIT;

-- The two roles of pg-slot-healer on :service, where nobody is superuser. For PostgreSQL 14 to 19.
-- To run it again changes nothing. Written by what the service and its users document; never run on the service itself.
--
-- Where: on the primary, as :administrator, in the database that the conninfos of exporter and healer name:
--
--     pg-slot-healer grants --service=:name | psql -X -v ON_ERROR_STOP=1 -d postgres
--
-- Passwords are not in here: use \password in psql, or password_command in the configuration.
--
-- What is particular to :service:
:notes

BEGIN;

-- Nobody's search_path can put another function or table in place of the ones meant here.
SET LOCAL search_path = pg_catalog;

DO $pgslot$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'exporter') THEN
    CREATE ROLE :"exporter" LOGIN CONNECTION LIMIT 10;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'healer') THEN
    CREATE ROLE :"healer" LOGIN CONNECTION LIMIT 10;
  END IF;
END
$pgslot$;

-- The exporter. pg_read_all_stats, pg_read_all_settings and two functions that list WAL files would be enough, but pg_monitor,
-- which contains them, is what these services let their administrators grant.
GRANT pg_monitor TO :"exporter";

-- The healer: one function, which exists from PostgreSQL 16 on. What the service refuses is said, and changes nothing else.
DO $pgslot$
BEGIN
  IF pg_catalog.to_regprocedure('pg_catalog.pg_log_standby_snapshot()') IS NOT NULL THEN
    GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO :"healer";
  END IF;
EXCEPTION
  WHEN insufficient_privilege THEN
    RAISE NOTICE 'EXECUTE on pg_log_standby_snapshot() cannot be granted here. Set fallback: emit_message in the healer''s section of the cluster: it needs no privilege, and the server logs the record within about 25 s.';
END
$pgslot$;

-- What holds now. Without forces_records the healer needs fallback: emit_message.
SELECT
  r.rolname AS role,
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

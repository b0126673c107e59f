-- The role that may end transactions for pg-slot-healer, where the section end_transactions of its configuration says so.
-- For PostgreSQL 14 to 19. To run it again changes nothing. Without that section nothing of this is needed.
--
-- Where: on the primary, as a superuser, in the database that the section's conninfo names, such as postgres:
--
--     pg-slot-healer grants --end-transactions | psql -X -v ON_ERROR_STOP=1 -d postgres
--
-- Password and pg_hba.conf: as for the healer's other role.

BEGIN;

SET LOCAL search_path = pg_catalog;
SET LOCAL client_min_messages = warning;

DO $pgslot$
DECLARE
  found record;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'ender') THEN
    CREATE ROLE :"ender" LOGIN CONNECTION LIMIT 10;
  END IF;
  -- Functions of that schema's or that table's owner, and of its triggers, rules and policies, could run in the role's
  -- session, with its privileges.
  FOR found IN
    SELECT 'schema pgslot' AS object, n.nspowner AS owner FROM pg_catalog.pg_namespace n WHERE n.nspname = 'pgslot'
    UNION ALL
    SELECT 'table pgslot.ended', c.relowner
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'pgslot' AND c.relname = 'ended'
  LOOP
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = found.owner AND r.rolsuper) THEN
      RAISE EXCEPTION 'the % does not belong to a superuser', found.object
        USING HINT = 'Find out who made it and why, and drop it, or use another database.';
    END IF;
  END LOOP;
  IF EXISTS (
    SELECT
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'pgslot'
      AND c.relname = 'ended'
      AND (c.relkind <> 'r' OR c.relrowsecurity OR c.relispartition
        OR EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid)
        OR EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid)
        OR EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid)
        OR EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid))
  ) THEN
    RAISE EXCEPTION 'pgslot.ended is not a plain table without triggers, rules, policies and children'
      USING HINT = 'Find out who changed it and why, and drop it, or use another database.';
  END IF;
  FOR found IN
    SELECT rolname FROM pg_catalog.pg_roles
    WHERE rolname = :'ender' AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
  LOOP
    RAISE WARNING 'role % has attributes that it does not need: see \du', found.rolname;
  END LOOP;
  EXECUTE pg_catalog.format('GRANT CONNECT ON DATABASE %I TO %I', pg_catalog.current_database(), :'ender');
END
$pgslot$;

-- pg_signal_backend: it ends sessions of any role but superusers. PostgreSQL has nothing narrower; what is narrower is the
-- configuration, which names users or applications, and the guards of the one statement that the healer uses.
-- pg_read_all_stats: whom it would end it has to see: state, since when, and transaction.
GRANT pg_signal_backend, pg_read_all_stats TO :"ender";

-- So that it can prove which transaction pins a slot at once; without it the proof waits for two checkpoints. From 16 on.
DO $pgslot$
BEGIN
  IF pg_catalog.to_regprocedure('pg_catalog.pg_log_standby_snapshot()') IS NOT NULL THEN
    EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO %I', :'ender');
  END IF;
END
$pgslot$;

-- Who was ended, when and why: one row each. By these rows at_most_per_hour is counted, also by another healer and after
-- a restart. The role may add rows and read them; neither change nor remove them.
-- The table is unlogged: its rows are in no WAL, so that no publication (FOR ALL TABLES is one) and no plugin sends them
-- to a consumer that knows no such table, which would stop it. A crash or a failover empties it: what counts then is what
-- each healer remembers. The healer's log and the server's keep what was done.
CREATE SCHEMA IF NOT EXISTS pgslot;
CREATE UNLOGGED TABLE IF NOT EXISTS pgslot.ended (
  ended_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  pid int4 NOT NULL,
  usename text NOT NULL,
  application_name text NOT NULL,
  datname text NOT NULL,
  xid text NOT NULL,
  idle_since timestamptz NOT NULL,
  slot_name text NOT NULL,
  why text NOT NULL
);
-- From an earlier version, whose table was logged.
ALTER TABLE pgslot.ended SET UNLOGGED;
GRANT USAGE ON SCHEMA pgslot TO :"ender";
GRANT SELECT ON TABLE pgslot.ended TO :"ender";
GRANT INSERT (pid, usename, application_name, datname, xid, idle_since, slot_name, why) ON TABLE pgslot.ended TO :"ender";

-- What holds now.
SELECT
  r.rolname AS role,
  pg_catalog.current_database() AS database,
  pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT') AS connects,
  pg_catalog.pg_has_role(r.oid, 'pg_signal_backend', 'USAGE') AS ends_sessions,
  pg_catalog.pg_has_role(r.oid, 'pg_read_all_stats', 'USAGE') AS sees_all_sessions,
  pg_catalog.has_table_privilege(r.oid, 'pgslot.ended', 'SELECT')
    AND pg_catalog.has_any_column_privilege(r.oid, 'pgslot.ended', 'INSERT') AS notes_them,
  (SELECT c.relpersistence = 'u' FROM pg_catalog.pg_class c WHERE c.oid = 'pgslot.ended'::pg_catalog.regclass)
    AS unpublished
FROM pg_catalog.pg_roles r
WHERE r.rolname = :'ender';

COMMIT;

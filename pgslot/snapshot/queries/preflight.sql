WITH
named AS (
  SELECT
    coalesce(nullif($1::text, ''), current_user::text) AS usename,
    coalesce(nullif($2::text, ''), pg_catalog.current_database()::text) AS datname
),
known AS (
  SELECT n.usename, n.datname, u.oid AS userid, d.oid AS datid, u.rolcanlogin, u.rolsuper, u.rolreplication, d.datallowconn
  FROM named n
  LEFT JOIN pg_catalog.pg_roles u ON u.rolname = n.usename
  LEFT JOIN pg_catalog.pg_database d ON d.datname = n.datname
),
assigned (userid, datid, name, value) AS (
  SELECT s.setrole, s.setdatabase, split_part(c.setting, '=', 1), substr(c.setting, strpos(c.setting, '=') + 1)
  FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) c (setting)
),
-- What a session of the user gets: the more special one of the settings of ALTER ROLE and ALTER DATABASE, or that of the server.
timeouts (name, value) AS (
  SELECT
    s.name,
    coalesce(
      (
        SELECT a.value
        FROM assigned a, known k
        WHERE a.name = s.name AND a.userid IN (0, k.userid) AND a.datid IN (0, k.datid)
        ORDER BY a.userid <> 0 DESC, a.datid <> 0 DESC
        LIMIT 1
      ),
      -- The value that this session began with is that of the server, unless our role or database has one of its own.
      CASE WHEN NOT EXISTS (
        SELECT
        FROM assigned a
        WHERE a.name = s.name
          AND a.userid IN (0, (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user))
          AND a.datid IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
      ) THEN s.reset_val END
    )
  FROM pg_catalog.pg_settings s
  WHERE s.name IN ('lock_timeout', 'statement_timeout')
),
seconds (name, value) AS (
  SELECT
    t.name,
    CASE WHEN t.value ~ '^\s*[0-9.]+\s*$' THEN t.value::float8 / 1000 ELSE extract(epoch FROM t.value::interval)::float8 END
  FROM timeouts t
),
record (function) AS (
  SELECT pg_catalog.to_regprocedure('pg_catalog.pg_log_standby_snapshot()')::oid
)
SELECT
  session_user::text AS session_user,
  k.usename,
  k.datname,
  k.userid IS NOT NULL AS user_exists,
  k.rolcanlogin AS user_may_login,
  k.rolsuper OR k.rolreplication AS user_replicates,
  EXISTS (
    SELECT
    FROM pg_catalog.pg_roles g
    WHERE g.rolname = 'rds_replication' AND k.userid IS NOT NULL AND pg_catalog.pg_has_role(k.userid, g.oid, 'USAGE')
  ) AS user_in_rds_replication,
  EXISTS (SELECT FROM pg_catalog.pg_roles g WHERE g.rolname = 'rds_replication') AS has_rds_replication,
  k.datallowconn AS database_connectable,
  CASE WHEN k.userid IS NOT NULL AND k.datid IS NOT NULL
    THEN pg_catalog.has_database_privilege(k.userid, k.datid, 'CONNECT')
  END AS user_may_connect,
  (SELECT t.value FROM seconds t WHERE t.name = 'lock_timeout') AS lock_timeout_seconds,
  (SELECT t.value FROM seconds t WHERE t.name = 'statement_timeout') AS statement_timeout_seconds,
  pg_catalog.current_setting('max_wal_senders')::int4 AS max_wal_senders,
  (SELECT count(*) FROM pg_catalog.pg_stat_get_wal_senders())::int4 AS wal_senders,
  EXISTS (SELECT FROM pg_catalog.pg_get_replication_slots() s WHERE s.plugin = $3::text) AS plugin_in_use,
  -- The server checks EXECUTE before it runs any of a query: what calls these functions is a query of its own.
  pg_catalog.has_function_privilege('pg_catalog.pg_config()', 'EXECUTE')
    AND pg_catalog.has_function_privilege('pg_catalog.pg_stat_file(text,boolean)', 'EXECUTE')
    AND pg_catalog.pg_has_role(current_user, 'pg_read_server_files', 'USAGE')
    AND pg_catalog.pg_has_role(current_user, 'pg_read_all_settings', 'USAGE') AS reads_libraries,
  (SELECT CASE WHEN r.function IS NOT NULL THEN pg_catalog.has_function_privilege(r.function, 'EXECUTE') END FROM record r)
    AS may_force_record,
  (
    SELECT CASE WHEN r.function IS NOT NULL AND k.userid IS NOT NULL
      THEN pg_catalog.has_function_privilege(k.userid, r.function, 'EXECUTE')
    END
    FROM record r
  ) AS user_may_force_record,
  ARRAY(
    SELECT coalesce(g.rolname::text, 'PUBLIC')
    FROM record r
    JOIN pg_catalog.pg_proc f ON f.oid = r.function
    CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(f.proacl, pg_catalog.acldefault('f', f.proowner))) a
    LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
    WHERE a.privilege_type = 'EXECUTE'
    ORDER BY 1
    LIMIT 5
  ) AS may_force_records,
  -- Visible without any privilege, unlike the sessions themselves. 0: a prepared transaction.
  ARRAY(
    SELECT DISTINCT coalesce(l.pid, 0)
    FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'transactionid' AND l.granted AND l.mode = 'ExclusiveLock'
      AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
    ORDER BY 1
    LIMIT 100
  ) AS xid_holders,
  w.sender_host || ':' || w.sender_port AS upstream
FROM known k
LEFT JOIN pg_catalog.pg_stat_wal_receiver w ON true

WITH activity AS (
  SELECT
    a.pid,
    a.datname,
    a.usename,
    a.application_name,
    a.state,
    a.backend_type,
    -- The server has no start for a walsender's transaction: its last statement's is the latest that it can be.
    coalesce(a.xact_start, a.query_start) AS xact_start,
    a.backend_xid,
    a.backend_xmin
  FROM pg_catalog.pg_stat_activity a
  WHERE a.pid <> pg_catalog.pg_backend_pid()
    AND a.backend_type <> 'parallel worker'
    -- A walsender that decodes or sends WAL is the victim. One with an xid runs SQL, and blocks like any session.
    AND (a.backend_type <> 'walsender' OR a.backend_xid IS NOT NULL)
    AND (a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL OR a.state LIKE 'idle in transaction%')
),
open (kind, backend_type, pid, datname, usename, application_name, state, xact_start, xid) AS (
  SELECT 'xid', a.backend_type, a.pid, a.datname, a.usename, a.application_name, a.state, a.xact_start, a.backend_xid
  FROM activity a
  WHERE a.backend_xid IS NOT NULL
  UNION ALL
  SELECT 'snapshot', a.backend_type, a.pid, a.datname, a.usename, a.application_name, a.state, a.xact_start, NULL
  FROM activity a
  WHERE a.backend_xid IS NULL AND a.backend_xmin IS NOT NULL
  UNION ALL
  SELECT 'idle_in_transaction', a.backend_type, a.pid, a.datname, a.usename, a.application_name, a.state, a.xact_start, NULL
  FROM activity a
  WHERE a.state LIKE 'idle in transaction%'
  UNION ALL
  SELECT 'prepared', 'prepared', NULL, p.database, p.owner, p.gid, 'prepared', p.prepared, p.transaction
  FROM pg_catalog.pg_prepared_xacts p
),
ranked AS (
  SELECT
    o.*,
    count(*) OVER (PARTITION BY o.kind) AS open_count,
    row_number() OVER (PARTITION BY o.kind ORDER BY o.xact_start, o.pid) = 1 AS oldest_start,
    CASE WHEN o.xid IS NOT NULL
      THEN row_number() OVER (PARTITION BY o.kind, o.xid IS NULL ORDER BY pg_catalog.age(o.xid) DESC)
    END AS by_xid
  FROM open o
)
SELECT
  r.kind,
  r.backend_type,
  r.pid,
  coalesce(r.datname, '') AS datname,
  coalesce(r.usename, '') AS usename,
  coalesce(r.application_name, '') AS application_name,
  coalesce(r.state, '') AS state,
  extract(epoch FROM pg_catalog.clock_timestamp() - r.xact_start)::float8 AS age_seconds,
  r.xid::text::int8 AS xid,
  pg_catalog.age(r.xid)::int8 AS xid_age,
  r.open_count,
  r.oldest_start,
  coalesce(r.by_xid = 1, false) AS oldest_xid
FROM ranked r
WHERE r.oldest_start OR r.by_xid <= 5

SELECT
  s.slot_name,
  coalesce(s.database, '') AS database,
  a.pid,
  a.backend_type,
  extract(epoch FROM pg_catalog.clock_timestamp() - a.query_start)::float8 AS wait_seconds,
  a.wait_event_type,
  a.wait_event,
  pg_catalog.pg_blocking_pids(a.pid) AS blocking_pids,
  s.restart_lsn IS NOT NULL AS wal_reserved,
  s.catalog_xmin::text::int8 AS catalog_xmin
FROM pg_catalog.pg_replication_slots s
-- For one session. The view on it makes up all sessions, to find that none of them creates a slot.
JOIN LATERAL pg_catalog.pg_stat_get_activity(s.active_pid) a ON a.pid = s.active_pid
WHERE s.slot_type = 'logical'
  AND s.confirmed_flush_lsn IS NULL
  AND s.active_pid IS NOT NULL
  AND NOT s.synced -- pg >= 17

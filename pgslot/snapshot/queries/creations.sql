SELECT
  s.slot_name,
  coalesce(s.database, '') AS database,
  a.pid,
  coalesce(pg_catalog.pg_get_userbyid(a.usesysid), '') AS usename,
  coalesce(a.application_name, '') AS application_name,
  a.backend_type,
  extract(epoch FROM pg_catalog.clock_timestamp() - a.query_start)::float8 AS wait_seconds,
  a.wait_event_type,
  a.wait_event,
  pg_catalog.pg_blocking_pids(a.pid) AS blocking_pids,
  s.restart_lsn IS NOT NULL AS wal_reserved,
  s.catalog_xmin::text::int8 AS catalog_xmin,
  -- No view shows whether its client is still there, but a client that has come back tries again. Not at the same moment,
  -- as some consumers create several slots at once.
  EXISTS (
    SELECT
    FROM pg_catalog.pg_stat_get_activity(NULL) again
    WHERE again.pid <> a.pid
      AND again.usesysid = a.usesysid
      AND again.datid IS NOT DISTINCT FROM a.datid
      AND again.application_name = a.application_name
      AND again.client_addr IS NOT DISTINCT FROM a.client_addr
      AND again.backend_type = a.backend_type
      AND again.query_start > a.query_start + interval '5 s'
      AND again.query ~* 'create_(logical_)?replication_slot'
  ) AS retried
FROM pg_catalog.pg_replication_slots s
-- The function for one session: the view on it would build the rows of all sessions, even if none creates a slot.
JOIN LATERAL pg_catalog.pg_stat_get_activity(s.active_pid) a ON a.pid = s.active_pid
WHERE s.slot_type = 'logical'
  AND s.confirmed_flush_lsn IS NULL
  AND s.active_pid IS NOT NULL
  AND s.plugin IS DISTINCT FROM 'pgrepack' -- REPACK (CONCURRENTLY), pg >= 19: no consumer waits for its slot
  AND NOT s.synced -- pg >= 17

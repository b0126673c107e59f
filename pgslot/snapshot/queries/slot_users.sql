SELECT
  s.slot_name,
  a.pid,
  coalesce(pg_catalog.pg_get_userbyid(a.usesysid), '') AS usename,
  coalesce(a.application_name, '') AS application_name,
  -- Without the privilege to see others' statistics it is NULL.
  pg_catalog.host(a.client_addr) AS client_addr,
  extract(epoch FROM pg_catalog.clock_timestamp() - a.backend_start)::float8 AS connected_seconds
FROM pg_catalog.pg_replication_slots s
JOIN LATERAL pg_catalog.pg_stat_get_activity(s.active_pid) a ON a.pid = s.active_pid
WHERE s.active_pid IS NOT NULL

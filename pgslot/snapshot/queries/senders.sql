SELECT
  a.application_name,
  coalesce(pg_catalog.host(a.client_addr), '') AS client_addr,
  coalesce(s.slot_name, '') AS slot_name,
  a.backend_xmin::text::int8 AS xmin
FROM pg_catalog.pg_stat_get_wal_senders() sender
JOIN LATERAL pg_catalog.pg_stat_get_activity(sender.pid) a ON a.pid = sender.pid
LEFT JOIN pg_catalog.pg_replication_slots s ON s.active_pid = sender.pid
WHERE sender.state IN ('catchup', 'streaming')
  -- A client that receives WAL to store it in files, or for a base backup, does not replay it.
  AND sender.replay_lsn IS NOT NULL
  -- Logical walsenders are connected to a database.
  AND a.datid IS NULL
  -- A WAL receiver always has a name. Programs that report all WAL as replayed, as some archivers do, may not.
  AND a.application_name <> ''
ORDER BY s.slot_name, a.application_name, a.client_addr

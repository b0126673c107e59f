SELECT
  s.slot_name,
  coalesce(s.database, '') AS database,
  s.slot_type,
  coalesce(s.plugin, '') AS plugin,
  s.temporary,
  s.two_phase,
  s.failover,           -- pg >= 17
  NULL::bool AS failover, -- pg < 17
  s.synced,             -- pg >= 17
  NULL::bool AS synced, -- pg < 17
  s.active,
  s.wal_status,
  s.invalidation_reason, -- pg >= 17
  CASE WHEN s.conflicting AND s.restart_lsn IS NOT NULL THEN 'unknown' WHEN s.wal_status = 'lost' THEN 'wal_removed' END AS invalidation_reason, -- pg = 16
  CASE WHEN s.wal_status = 'lost' THEN 'wal_removed' END AS invalidation_reason, -- pg < 16
  extract(epoch FROM s.inactive_since)::float8 AS inactive_since, -- pg >= 17
  NULL::float8 AS inactive_since, -- pg < 17
  CASE WHEN kept.lsn IS NOT NULL THEN s.safe_wal_size END AS safe_wal_size_bytes,
  pg_catalog.pg_wal_lsn_diff(greatest(here.lsn, kept.lsn, s.confirmed_flush_lsn), kept.lsn)::int8 AS retained_wal_bytes,
  CASE WHEN kept.lsn IS NOT NULL
    THEN pg_catalog.pg_wal_lsn_diff(greatest(here.lsn, kept.lsn, s.confirmed_flush_lsn), s.confirmed_flush_lsn)::int8
  END AS unconfirmed_wal_bytes,
  pg_catalog.pg_wal_lsn_diff(s.confirmed_flush_lsn, kept.lsn)::int8 AS pinned_wal_bytes,
  pg_catalog.pg_wal_lsn_diff(kept.lsn, '0/0')::int8 AS restart_position,
  pg_catalog.pg_wal_lsn_diff(s.confirmed_flush_lsn, '0/0')::int8 AS confirmed_position,
  CASE WHEN s.wal_status IS DISTINCT FROM 'lost' THEN pg_catalog.age(s.catalog_xmin)::int8 END AS catalog_xmin_age_xids,
  s.catalog_xmin::text::int8 AS catalog_xmin,
  s.slot_type = 'logical' AND s.confirmed_flush_lsn IS NULL AND s.active_pid IS NOT NULL AS in_creation,
  r.spill_txns, r.spill_count, r.spill_bytes,
  r.stream_txns, r.stream_count, r.stream_bytes,
  r.total_txns, r.total_bytes
FROM pg_catalog.pg_replication_slots s
LEFT JOIN pg_catalog.pg_stat_replication_slots r ON r.slot_name = s.slot_name
CROSS JOIN (
  SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
    THEN pg_catalog.pg_last_wal_replay_lsn()
    ELSE pg_catalog.pg_current_wal_lsn()
  END
) here (lsn)
-- An invalidated slot keeps a catalog_xmin, and unless its WAL was removed a restart_lsn: they hold nothing back any more.
CROSS JOIN LATERAL (SELECT CASE WHEN s.wal_status <> 'lost' THEN s.restart_lsn END) kept (lsn)

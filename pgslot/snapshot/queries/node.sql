SELECT
  pg_catalog.pg_is_in_recovery() AS in_recovery,
  pg_catalog.current_setting('server_version') AS version,
  pg_catalog.current_setting('wal_level') AS wal_level,
  coalesce(pg_catalog.current_setting('effective_wal_level', true), pg_catalog.current_setting('wal_level'))
    AS effective_wal_level,
  extract(epoch FROM pg_catalog.clock_timestamp())::float8 AS server_time,
  current_user::text AS role,
  pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS reads_all_stats,
  -- The view joins the catalog of databases: while that is locked, nothing of this query would answer.
  -- REPACK (CONCURRENTLY) of PostgreSQL 19 has slots of its own beside max_replication_slots (max_repack_replication_slots);
  -- nothing else can use its plugin.
  (SELECT count(*) FROM pg_catalog.pg_get_replication_slots() slot WHERE slot.plugin IS DISTINCT FROM 'pgrepack')
    AS replication_slots,
  pg_catalog.current_setting('max_replication_slots')::int8 AS max_replication_slots,
  nullif(pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_slot_wal_keep_size')), -1) AS max_slot_wal_keep_size_bytes,
  pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_keep_size')) AS wal_keep_size_bytes,
  pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_wal_size')) AS max_wal_size_bytes,
  pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')) AS wal_segment_size_bytes,
  extract(epoch FROM pg_catalog.current_setting('bgwriter_delay')::interval)::float8 AS bgwriter_delay_seconds,
  coalesce(pg_catalog.current_setting('synchronized_standby_slots', true), '') AS synchronized_standby_slots,
  nullif(extract(epoch FROM pg_catalog.current_setting('idle_replication_slot_timeout', true)::interval), 0)::float8
    AS idle_replication_slot_timeout_seconds,
  CASE WHEN NOT pg_catalog.pg_is_in_recovery()
    -- The distance to the first normal xid, modulo 2^32. A snapshot's xmax is older: it only covers ended transactions.
    THEN (pg_catalog.age('3'::pg_catalog.xid)::int8 + 3 + 4294967296) % 4294967296
  END AS next_xid,
  pg_catalog.pg_wal_lsn_diff(
    CASE WHEN pg_catalog.pg_is_in_recovery()
      THEN pg_catalog.pg_last_wal_replay_lsn()
      ELSE pg_catalog.pg_current_wal_lsn()
    END, '0/0')::int8 AS wal_written_bytes

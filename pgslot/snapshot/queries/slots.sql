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
  -- In recovery the server takes the current position to be 0/0, and says reserved until the slot is lost. So it is
  -- computed here as GetWALAvailability() (xlog.c) does on a primary.
  CASE
    WHEN NOT here.in_recovery OR s.wal_status <> 'reserved' THEN s.wal_status
    WHEN here.removes_from IS NULL THEN NULL
    WHEN behind.segments > keep.segments THEN 'unreserved'
    WHEN behind.segments > setting.max_wal_size / setting.segment + 1 THEN 'extended'
    ELSE s.wal_status
  END AS wal_status,
  s.invalidation_reason, -- pg >= 17
  CASE WHEN s.conflicting AND s.restart_lsn IS NOT NULL THEN 'unknown' WHEN s.wal_status = 'lost' THEN 'wal_removed' END AS invalidation_reason, -- pg = 16
  CASE WHEN s.wal_status = 'lost' THEN 'wal_removed' END AS invalidation_reason, -- pg < 16
  s.slotsync_skip_reason,                    -- pg >= 19
  NULL::text AS slotsync_skip_reason,        -- pg < 19
  extract(epoch FROM s.inactive_since)::float8 AS inactive_since, -- pg >= 17
  NULL::float8 AS inactive_since, -- pg < 17
  -- As slotfuncs.c computes it, which takes the position to be 0/0, too. Some versions show nothing for a limit of 0.
  CASE
    WHEN kept.lsn IS NULL THEN NULL
    WHEN here.in_recovery OR setting.slot_keep = 0
      THEN (kept.position / setting.segment + keep.segments + 1) * setting.segment - here.removes_from
    ELSE s.safe_wal_size
  END AS safe_wal_size_bytes,
  -- greatest() would pass over an unknown position.
  CASE WHEN here.lsn IS NOT NULL
    THEN pg_catalog.pg_wal_lsn_diff(greatest(here.lsn, kept.lsn, s.confirmed_flush_lsn), kept.lsn)::int8
  END AS retained_wal_bytes,
  CASE WHEN kept.lsn IS NOT NULL AND here.lsn IS NOT NULL
    THEN pg_catalog.pg_wal_lsn_diff(greatest(here.lsn, kept.lsn, s.confirmed_flush_lsn), s.confirmed_flush_lsn)::int8
  END AS unconfirmed_wal_bytes,
  pg_catalog.pg_wal_lsn_diff(s.confirmed_flush_lsn, kept.lsn)::int8 AS pinned_wal_bytes,
  kept.position AS restart_position,
  pg_catalog.pg_wal_lsn_diff(s.confirmed_flush_lsn, '0/0')::int8 AS confirmed_position,
  pg_catalog.pg_wal_lsn_diff(sender.sent_lsn, '0/0')::int8 AS sent_position,
  pg_catalog.pg_wal_lsn_diff(sender.write_lsn, '0/0')::int8 AS received_position,
  extract(epoch FROM sender.reply_time)::float8 AS reply_time,
  consumer.wait_event AS consumer_wait_event,
  CASE WHEN consumer.pid IS NOT NULL
    THEN consumer.wait_event IS NULL OR consumer.wait_event_type IN ('IO', 'LWLock')
  END AS decoding,
  -- The slot of a subscription's table copy is released before the copy, and used again after it. The walsender that copies
  -- is named after the slot (LogicalRepSyncTableStart() in tablesync.c), unless the subscription's conninfo has a name.
  CASE
    WHEN s.active OR s.slot_name !~ '^pg_[0-9]+_sync_[0-9]+_[0-9]+$' THEN false
    WHEN s.slot_name = ANY (ARRAY(
      SELECT a.application_name FROM pg_catalog.pg_stat_get_activity(NULL) a WHERE a.backend_type = 'walsender'
    )) THEN true
    WHEN s.datoid = ANY (ARRAY(
      SELECT a.datid
      FROM pg_catalog.pg_stat_get_activity(NULL) a
      WHERE a.backend_type = 'walsender' AND a.query ~* '^\s*COPY\M'
    )) THEN NULL
    ELSE false
  END AS table_copy_running,
  CASE WHEN s.wal_status IS DISTINCT FROM 'lost' THEN pg_catalog.age(s.catalog_xmin)::int8 END AS catalog_xmin_age_xids,
  CASE WHEN s.wal_status IS DISTINCT FROM 'lost' THEN pg_catalog.age(s.xmin)::int8 END AS xmin_age_xids,
  s.catalog_xmin::text::int8 AS catalog_xmin,
  s.xmin::text::int8 AS xmin,
  s.slot_type = 'logical' AND s.confirmed_flush_lsn IS NULL AND s.active_pid IS NOT NULL
    AND s.plugin IS DISTINCT FROM 'pgrepack' AS in_creation, -- Nobody waits for the slot of a REPACK, but for the REPACK.
  r.spill_txns, r.spill_count, r.spill_bytes,
  r.stream_txns, r.stream_count, r.stream_bytes,
  r.total_txns, r.total_bytes,
  r.mem_exceeded_count,                                        -- pg >= 19
  r.slotsync_skip_count,                                       -- pg >= 19
  extract(epoch FROM r.slotsync_last_skip)::float8 AS slotsync_last_skip -- pg >= 19
  NULL::int8 AS mem_exceeded_count,                            -- pg < 19
  NULL::int8 AS slotsync_skip_count,                           -- pg < 19
  NULL::float8 AS slotsync_last_skip                           -- pg < 19
FROM pg_catalog.pg_replication_slots s
LEFT JOIN pg_catalog.pg_stat_replication_slots r ON r.slot_name = s.slot_name
-- Without the privilege to see others' statistics sent_lsn is NULL.
LEFT JOIN pg_catalog.pg_stat_get_wal_senders() sender ON sender.pid = s.active_pid
CROSS JOIN (
  SELECT
    recovery.is_on,
    CASE WHEN recovery.is_on THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END,
    -- A restartpoint removes WAL by what was received, a checkpoint by what was written.
    CASE WHEN recovery.is_on
      THEN pg_catalog.pg_wal_lsn_diff(
        greatest(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn()), '0/0')::int8
      ELSE pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0')::int8
    END
  FROM pg_catalog.pg_is_in_recovery() recovery (is_on)
) here (in_recovery, lsn, removes_from)
CROSS JOIN (
  SELECT
    pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')),
    pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_slot_wal_keep_size')),
    pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_keep_size')),
    pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_wal_size'))
) setting (segment, slot_keep, wal_keep, max_wal_size)
-- NULL without a limit.
CROSS JOIN LATERAL (
  SELECT CASE WHEN setting.slot_keep >= 0
    THEN greatest(setting.slot_keep / setting.segment, setting.wal_keep / setting.segment)
  END
) keep (segments)
-- An invalidated slot still has a catalog_xmin and, unless its WAL was removed, a restart_lsn: they hold nothing back.
CROSS JOIN LATERAL (
  SELECT CASE WHEN s.wal_status <> 'lost' THEN s.restart_lsn END,
    CASE WHEN s.wal_status <> 'lost' THEN pg_catalog.pg_wal_lsn_diff(s.restart_lsn, '0/0')::int8 END
) kept (lsn, position)
CROSS JOIN LATERAL (SELECT here.removes_from / setting.segment - kept.position / setting.segment) behind (segments)
-- Only where it matters, as each call has its cost: OFFSET 0 keeps the condition a filter in front of the function.
LEFT JOIN LATERAL (
  SELECT a.pid, a.wait_event_type, a.wait_event
  FROM pg_catalog.pg_stat_get_activity(s.active_pid) a
  WHERE s.active_pid IS NOT NULL
    AND s.slot_type = 'logical'
    AND pg_catalog.pg_wal_lsn_diff(here.lsn, kept.lsn) > 16777216
  OFFSET 0
) consumer ON true

SELECT
  -- From 19 on there also is a row while the receiver still tries to connect.
  CASE WHEN w.readable THEN w.pid IS NOT NULL AND w.status IS DISTINCT FROM 'connecting' END AS receiver_running,
  w.status AS receiver_status,
  CASE WHEN pg_catalog.pg_has_role(current_user, 'pg_read_all_settings', 'USAGE')
    THEN pg_catalog.current_setting('primary_conninfo') <> ''
  END AS streaming_configured,
  pg_catalog.current_setting('restore_command') <> '' AS restores_from_archive,
  pg_catalog.pg_get_wal_replay_pause_state() AS replay_pause_state,
  extract(epoch FROM pg_catalog.current_setting('recovery_min_apply_delay')::interval)::float8 AS apply_delay_seconds,
  CASE WHEN here.received IS NOT NULL
    THEN pg_catalog.pg_wal_lsn_diff(greatest(here.received, here.replayed), here.replayed)::int8
  END AS replay_lag_bytes,
  process.startup_wait_event_type,
  process.startup_wait_event,
  pg_catalog.current_setting('sync_replication_slots')::bool AS sync_replication_slots, -- pg >= 17
  NULL::bool AS sync_replication_slots,                                                 -- pg < 17
  process.slotsync_worker_running, -- pg >= 17
  NULL::bool AS slotsync_worker_running, -- pg < 17
  pg_catalog.current_setting('hot_standby_feedback')::bool AS hot_standby_feedback,
  pg_catalog.current_setting('primary_slot_name') AS primary_slot_name,
  -- As libpq parses it, as keywords or a URI, once escaped characters and quoted values are replaced by one letter. It is
  -- not returned, as it may hold a password.
  CASE WHEN pg_catalog.pg_has_role(current_user, 'pg_read_all_settings', 'USAGE')
    THEN pg_catalog.regexp_replace(
      pg_catalog.regexp_replace(pg_catalog.current_setting('primary_conninfo'), '\\.', 'x', 'g'), '''[^'']+''', 'x', 'g'
    ) ~ '^postgres(ql)?://[^/]*/[^?]|^postgres(ql)?://.*[?&]dbname=[^&]|^(?!postgres(ql)?://)(.*\s)?dbname\s*=\s*[^''\s]'
  END AS upstream_dbname_given,
  w.slot_name AS receiver_slot_name,
  -- libpq reports its parameters unquoted: application_name if it is set, otherwise the fallback that it uses instead.
  coalesce(
    substring(w.conninfo FROM '(?:^| )application_name=(.*?)(?: [a-z_]+=|$)'),
    substring(w.conninfo FROM '(?:^| )fallback_application_name=(.*?)(?: [a-z_]+=|$)')
  ) AS receiver_application_name
FROM (
  SELECT recovery.is_on,
    CASE WHEN recovery.is_on THEN pg_catalog.pg_last_wal_receive_lsn() END,
    CASE WHEN recovery.is_on THEN pg_catalog.pg_last_wal_replay_lsn() END
  FROM pg_catalog.pg_is_in_recovery() recovery (is_on)
) here (in_recovery, received, replayed)
-- What the view of the WAL receiver shows. Its function returns one row even if there is no receiver.
LEFT JOIN LATERAL (
  SELECT true, r.pid, r.status, r.slot_name, r.conninfo
  FROM pg_catalog.pg_stat_get_wal_receiver() r
  WHERE here.in_recovery
) w (readable, pid, status, slot_name, conninfo) ON true
LEFT JOIN (
  SELECT
    max(a.wait_event_type) FILTER (WHERE a.backend_type = 'startup'),
    max(a.wait_event) FILTER (WHERE a.backend_type = 'startup'),
    count(*) FILTER (WHERE a.backend_type = 'slotsync worker') > 0
  FROM pg_catalog.pg_stat_activity a
  WHERE a.backend_type IN ('startup', 'slotsync worker')
) process (startup_wait_event_type, startup_wait_event, slotsync_worker_running) ON true
WHERE here.in_recovery

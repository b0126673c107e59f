SELECT
  -- From 19 on there is a row while it still tries to connect.
  w.pid IS NOT NULL AND w.status IS DISTINCT FROM 'connecting' AS receiver_running,
  w.status AS receiver_status,
  CASE WHEN pg_catalog.pg_has_role(current_user, 'pg_read_all_settings', 'USAGE')
    THEN pg_catalog.current_setting('primary_conninfo') <> ''
  END AS streaming_configured,
  pg_catalog.pg_get_wal_replay_pause_state() AS replay_pause_state,
  extract(epoch FROM pg_catalog.current_setting('recovery_min_apply_delay')::interval)::float8 AS apply_delay_seconds,
  CASE WHEN here.received IS NOT NULL
    THEN pg_catalog.pg_wal_lsn_diff(greatest(here.received, here.replayed), here.replayed)::int8
  END AS replay_lag_bytes,
  startup.wait_event_type AS startup_wait_event_type,
  startup.wait_event AS startup_wait_event
FROM (
  SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn()
) here (in_recovery, received, replayed)
LEFT JOIN pg_catalog.pg_stat_wal_receiver w ON true
LEFT JOIN pg_catalog.pg_stat_activity startup ON startup.backend_type = 'startup'
WHERE here.in_recovery

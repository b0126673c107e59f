SELECT
  pg_catalog.pg_wal_lsn_diff(c.redo_lsn, '0/0')::int8 AS redo_position,
  extract(epoch FROM c.checkpoint_time)::float8 AS checkpoint_time
FROM pg_catalog.pg_control_checkpoint() c

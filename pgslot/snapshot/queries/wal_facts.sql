SELECT
  CASE pg_catalog.current_setting('archive_mode')
    WHEN 'always' THEN true
    WHEN 'on' THEN NOT pg_catalog.pg_is_in_recovery()
    ELSE false
  END AS archiving,
  pg_catalog.current_setting('archive_command') <> ''
    OR coalesce(pg_catalog.current_setting('archive_library', true), '') <> '' AS archive_configured,
  a.last_archived_wal,
  extract(epoch FROM a.last_archived_time)::float8 AS last_archived_time,
  a.failed_count,
  a.last_failed_wal,
  extract(epoch FROM a.last_failed_time)::float8 AS last_failed_time,
  -- The server checks EXECUTE before it runs any of a query, so queries that call these functions stand alone.
  pg_catalog.has_function_privilege(pg_catalog.to_regprocedure('pg_catalog.pg_ls_waldir()')::oid, 'EXECUTE')
    AS lists_wal,
  pg_catalog.has_function_privilege(pg_catalog.to_regprocedure('pg_catalog.pg_ls_archive_statusdir()')::oid, 'EXECUTE')
    AS lists_archive_status,
  pg_catalog.has_function_privilege(pg_catalog.to_regprocedure('pg_catalog.pg_control_checkpoint()')::oid, 'EXECUTE')
    AS reads_checkpoint
FROM pg_catalog.pg_stat_get_archiver() a

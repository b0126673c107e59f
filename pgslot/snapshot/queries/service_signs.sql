SELECT
  ARRAY(
    SELECT r.rolname::text FROM pg_catalog.pg_roles r
    WHERE r.rolname IN (
      'rds_superuser', 'rdsadmin', 'cloudsqlsuperuser', 'alloydbsuperuser', 'azure_pg_admin', 'supabase_admin',
      'neon_superuser'
    )
    ORDER BY r.rolname
  ) AS roles,
  ARRAY(
    SELECT p.proname::text FROM pg_catalog.pg_proc p
    WHERE p.proname IN ('aurora_version', 'aurora_replica_status', 'aurora_stat_logical_wal_cache')
    ORDER BY p.proname
  ) AS functions,
  ARRAY(
    SELECT name
    FROM (VALUES ('rds.logical_replication'), ('cloudsql.logical_decoding')) known (name)
    WHERE pg_catalog.current_setting(name, true) IS NOT NULL
  ) AS settings,
  -- Aurora's own processes: aurora runtime process, aurora wal replay process.
  EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity(NULL) a WHERE a.backend_type LIKE 'aurora %') AS aurora_processes

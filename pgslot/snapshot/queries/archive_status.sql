SELECT
  count(*) FILTER (WHERE f.name LIKE '%.ready') AS ready_files,
  -- Without the timeline, with which the name begins.
  min(substr(f.name, 9, 16) COLLATE "C") FILTER (WHERE f.name ~ '^[0-9A-F]{24}[.]ready$') AS oldest_ready
FROM pg_catalog.pg_ls_archive_statusdir() f

SELECT
  folder.setting AS folder,
  EXISTS (
    SELECT
    FROM unnest(ARRAY['.so', '.dylib', '.dll']) ending
    CROSS JOIN LATERAL pg_catalog.pg_stat_file(folder.setting || '/' || $1::text || ending, true) file
    WHERE file.size IS NOT NULL
  ) AS found,
  pg_catalog.current_setting('dynamic_library_path') = '$libdir' AS only_folder
FROM pg_catalog.pg_config() folder
WHERE folder.name = 'PKGLIBDIR'

WITH
published (relid) AS (
  SELECT DISTINCT c.oid
  FROM pg_catalog.pg_publication_tables t
  JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
  WHERE t.pubname = $1::text
),
-- Of a partitioned table the partitions are what is written to.
written (relid) AS (
  SELECT DISTINCT coalesce(leaf.relid::oid, p.relid)
  FROM published p
  LEFT JOIN LATERAL pg_catalog.pg_partition_tree(p.relid) leaf ON leaf.isleaf
),
unidentified (name) AS (
  SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
  FROM written w
  JOIN pg_catalog.pg_class c ON c.oid = w.relid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r'
    AND CASE c.relreplident
      WHEN 'f' THEN false
      WHEN 'd' THEN NOT EXISTS (
        SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate
      )
      WHEN 'i' THEN NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisreplident)
      ELSE true
    END
),
heartbeats (name, published) AS (
  SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), EXISTS (SELECT FROM published p WHERE p.relid = c.oid)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND c.relname ILIKE '%heartbeat%' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
)
SELECT
  p.pubname IS NOT NULL AS exists,
  ARRAY(SELECT o.pubname::text FROM pg_catalog.pg_publication o ORDER BY 1 LIMIT 10) AS publications,
  coalesce(p.pubupdate OR p.pubdelete, false) AS needs_identity,
  coalesce(p.puballtables, false) AS all_tables,
  (SELECT count(*) FROM published) AS table_count,
  (SELECT count(*) FROM unidentified) AS unidentified_count,
  ARRAY(SELECT u.name FROM unidentified u ORDER BY 1 LIMIT 10) AS unidentified,
  ARRAY(SELECT h.name FROM heartbeats h WHERE h.published ORDER BY 1 LIMIT 5) AS heartbeats,
  ARRAY(SELECT h.name FROM heartbeats h WHERE NOT h.published ORDER BY 1 LIMIT 5) AS unpublished_heartbeats
FROM (VALUES (1)) always (present)
LEFT JOIN pg_catalog.pg_publication p ON p.pubname = $1::text

WITH files (name, size) AS MATERIALIZED (
  SELECT f.name, f.size FROM pg_catalog.pg_ls_waldir() f
),
-- The numbers of the segments, without the timeline: a name is the timeline, and the number in two halves.
segments (number) AS (
  SELECT DISTINCT
    ('x' || substr(f.name, 9, 8))::bit(32)::int8
      * (4294967296 / pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')))
      + ('x' || substr(f.name, 17, 8))::bit(32)::int8
  FROM files f
  WHERE f.name ~ '^[0-9A-F]{24}$'
),
-- Numbers that follow one another, less their rank, are the same.
ranked (number, difference) AS (
  SELECT s.number, s.number - row_number() OVER (ORDER BY s.number) FROM segments s
),
-- There is one range on almost every server. The newest ones matter, if there ever are very many.
ranges (first, last) AS (
  SELECT min(r.number), max(r.number) FROM ranked r GROUP BY r.difference ORDER BY 2 DESC LIMIT 100
)
SELECT
  (SELECT coalesce(sum(f.size), 0)::int8 FROM files f) AS size_bytes,
  ARRAY(SELECT r.first FROM ranges r ORDER BY r.first) AS first_segments,
  ARRAY(SELECT r.last FROM ranges r ORDER BY r.first) AS last_segments,
  -- A restartpoint removes WAL by what was received, a checkpoint by what was written.
  pg_catalog.pg_wal_lsn_diff(
    CASE WHEN pg_catalog.pg_is_in_recovery()
      THEN greatest(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())
      ELSE pg_catalog.pg_current_wal_lsn()
    END, '0/0')::int8 AS position

-- Check and act in one statement: does this transaction still block the slot, may its session be terminated, and if so
-- terminate it. Without `act` it only returns the result of the check. It always returns one row.
--
-- $1 pid, $2 xid
-- As in the earlier check, to compare: $3 backend_start, $4 xact_start, $5 state_change, $6 state (all empty: first check)
-- $7 idle for seconds, $8 users, $9 applications, $10 databases (JSON arrays; null: any), $11 at most per hour
-- $12 kind, $13 slot, $14 restart_lsn as bytes, $15 and $16 user and application of the slot's creator, $17 act, $18 why
-- $19 the bound: every transaction that can pin the slot has an older xid (0: not known), $20 what has to be decoded and
-- confirmed, as bytes, $21 the seconds that the limit per hour looks back, $22 the latest Unix time that the clock may show
--
-- All times are compared at one moment, when the statement came in: it may have to wait for the lock of its table.
--
-- The row in pgslot.ended is written before the session is terminated: without the row nothing is terminated. All
-- healers, also after a restart, count these rows for the limit per hour.
WITH found AS MATERIALIZED (
  SELECT
    a.pid,
    a.usesysid,
    a.usename::pg_catalog.text AS usename,
    a.application_name,
    a.datname::pg_catalog.text AS datname,
    a.backend_type,
    a.state,
    a.backend_xid,
    a.state_change AS idle_since,
    extract(epoch FROM a.backend_start)::pg_catalog.text AS backend_start,
    extract(epoch FROM a.xact_start)::pg_catalog.text AS xact_start,
    extract(epoch FROM a.state_change)::pg_catalog.text AS state_change
  FROM pg_catalog.pg_stat_activity a
  WHERE a.pid = $1::pg_catalog.int4
),
-- Every open transaction and subtransaction holds the lock of its xid, a prepared one without a pid. pg_locks reads all
-- of them at one moment, while pg_stat_activity and pg_prepared_xacts can both miss one that is being prepared.
older AS MATERIALIZED (
  SELECT l.pid, pg_catalog.max(pg_catalog.age(l.transactionid)) AS xid_age
  FROM pg_catalog.pg_locks l
  WHERE l.locktype = 'transactionid'
    AND l.mode = 'ExclusiveLock'
    AND l.granted
    AND l.pid IS DISTINCT FROM $1::pg_catalog.int4
    AND CASE $12
      WHEN 'retention' THEN pg_catalog.age(l.transactionid) > pg_catalog.age($19::pg_catalog.xid)
      WHEN 'creation_on_standby' THEN pg_catalog.age(l.transactionid) > pg_catalog.age($2::pg_catalog.text::pg_catalog.xid)
    END
  GROUP BY l.pid, CASE WHEN l.pid IS NULL THEN l.transactionid::pg_catalog.text END
),
proof AS MATERIALIZED (
  SELECT
    a.*,
    CASE
      WHEN a.pid IS NULL THEN 'gone'
      -- Without pg_read_all_stats all of these columns are NULL, also if the privilege was revoked a moment ago.
      WHEN a.backend_type IS NULL THEN 'hidden'
      WHEN a.backend_type <> 'client backend' THEN 'not_a_client'
      WHEN a.usesysid = (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)
        OR a.application_name LIKE 'pg\_slot\_%' THEN 'own'
      WHEN $3 <> '' AND (a.backend_start, a.xact_start, a.state_change, a.state) IS DISTINCT FROM ($3, $4, $5, $6)
        THEN 'changed'
      WHEN a.backend_xid IS NULL OR a.backend_xid::pg_catalog.text <> $2 THEN 'other_transaction'
      WHEN a.state IS NULL OR a.state NOT IN ('idle in transaction', 'idle in transaction (aborted)') THEN 'active'
      WHEN coalesce((SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.oid = a.usesysid), true) THEN 'superuser'
      WHEN coalesce(
          $8 <> 'null' AND NOT a.usename = ANY (ARRAY(
            SELECT u.name FROM pg_catalog.jsonb_array_elements_text(nullif($8, 'null')::pg_catalog.jsonb) u (name))),
          true) THEN 'user_not_allowed'
      WHEN coalesce(
          $9 <> 'null' AND NOT a.application_name = ANY (ARRAY(
            SELECT u.name FROM pg_catalog.jsonb_array_elements_text(nullif($9, 'null')::pg_catalog.jsonb) u (name))),
          true) THEN 'application_not_allowed'
      WHEN $8 = 'null' AND $9 = 'null' THEN 'user_not_allowed'
      WHEN coalesce(
          $10 <> 'null' AND NOT a.datname = ANY (ARRAY(
            SELECT u.name FROM pg_catalog.jsonb_array_elements_text(nullif($10, 'null')::pg_catalog.jsonb) u (name))),
          true) THEN 'database_not_allowed'
      WHEN (a.usename, a.application_name) = ($15, $16) OR EXISTS (
        SELECT
        FROM pg_catalog.pg_stat_activity w
        WHERE w.pid <> a.pid
          AND w.usesysid = a.usesysid
          AND w.application_name = a.application_name
          AND (
            w.backend_type = 'walsender'
            OR w.pid IN (SELECT s.active_pid FROM pg_catalog.pg_replication_slots s WHERE s.active_pid IS NOT NULL)
          )
      ) THEN 'consumer'
      WHEN extract(epoch FROM pg_catalog.statement_timestamp()) > $22::pg_catalog.numeric THEN 'clock'
      WHEN coalesce(
          a.idle_since > pg_catalog.statement_timestamp() - pg_catalog.make_interval(secs => $7::pg_catalog.float8),
          true) THEN 'too_young'
      WHEN NOT CASE $12
        -- It waits for a transaction that is not older than this one, so that it has to wait for this one, too.
        WHEN 'creation' THEN EXISTS (
          SELECT
          FROM pg_catalog.pg_replication_slots s
          JOIN pg_catalog.pg_locks l ON l.pid = s.active_pid
          WHERE s.slot_name = $13
            AND s.confirmed_flush_lsn IS NULL
            AND l.locktype = 'transactionid'
            AND NOT l.granted
            AND pg_catalog.age(l.transactionid) <= pg_catalog.age(a.backend_xid)
        )
        -- The primary does not know the transactions that a standby waits for, but the oldest one is among them.
        WHEN 'creation_on_standby' THEN NOT EXISTS (SELECT FROM older)
        -- It has not moved since the snapshot, and has a consumer, which the guard 'consumer' above has compared.
        WHEN 'retention' THEN pg_catalog.age(a.backend_xid) > pg_catalog.age($19::pg_catalog.xid) AND EXISTS (
          SELECT
          FROM pg_catalog.pg_replication_slots s
          WHERE s.slot_name = $13
            AND s.active
            AND s.wal_status <> 'lost'
            AND pg_catalog.pg_wal_lsn_diff(s.restart_lsn, '0/0')::pg_catalog.text = $14
        )
        ELSE false
      END THEN 'not_in_the_way'
      WHEN $12 = 'retention' AND EXISTS (SELECT FROM older) THEN 'ambiguous'
      -- Records that were logged when there was no other candidate have been decoded and confirmed, and restart_lsn has
      -- not moved, as the line above has shown: so this transaction was the one that pinned it, and it still is open.
      -- A consumer that reads by a function has no walsender, and confirms what it has decoded.
      WHEN $12 = 'retention' AND $17::pg_catalog.bool AND NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_replication_slots s
        LEFT JOIN pg_catalog.pg_stat_get_wal_senders() sender ON sender.pid = s.active_pid
        WHERE s.slot_name = $13
          AND pg_catalog.pg_wal_lsn_diff(s.restart_lsn, '0/0')::pg_catalog.text = $14
          AND pg_catalog.pg_wal_lsn_diff(
            CASE WHEN sender.pid IS NULL THEN s.confirmed_flush_lsn
              ELSE least(s.confirmed_flush_lsn, coalesce(sender.sent_lsn, '0/0')) END,
            '0/0') >= $20::pg_catalog.numeric
      ) THEN 'unproven'
      WHEN (
        SELECT pg_catalog.count(*)
        FROM pgslot.ended e
        WHERE e.ended_at > pg_catalog.statement_timestamp() - pg_catalog.make_interval(secs => $21::pg_catalog.float8)
      ) >= $11::pg_catalog.int8 THEN 'hour_spent'
    END AS refusal
  FROM (SELECT) once
  LEFT JOIN found a ON true
),
noted AS (
  INSERT INTO pgslot.ended (pid, usename, application_name, datname, xid, idle_since, slot_name, why)
  SELECT p.pid, p.usename, p.application_name, p.datname, $2, p.idle_since, $13, $18
  FROM proof p
  WHERE p.refusal IS NULL AND $17::pg_catalog.bool
  RETURNING pid
)
SELECT
  p.refusal,
  p.pid,
  coalesce(p.usename, '') AS usename,
  coalesce(p.application_name, '') AS application_name,
  coalesce(p.datname, '') AS datname,
  coalesce(p.state, '') AS state,
  coalesce(p.backend_start, '') AS backend_start,
  coalesce(p.xact_start, '') AS xact_start,
  coalesce(p.state_change, '') AS state_change,
  extract(epoch FROM pg_catalog.statement_timestamp())::pg_catalog.float8 AS clock,
  -- At most ten, the oldest first.
  coalesce(ARRAY(
    SELECT coalesce(
      pg_catalog.format('%s pid=%s user=%s application=%s', s.backend_type, s.pid, s.usename, s.application_name),
      (
        SELECT pg_catalog.format('prepared gid=%s user=%s', t.gid, t.owner)
        FROM pg_catalog.pg_prepared_xacts t
        WHERE o.pid IS NULL AND pg_catalog.age(t.transaction) = o.xid_age
        LIMIT 1
      ),
      pg_catalog.format('pid=%s', o.pid))
    FROM older o
    LEFT JOIN pg_catalog.pg_stat_activity s ON s.pid = o.pid
    WHERE p.refusal = 'ambiguous'
    ORDER BY o.xid_age DESC
    LIMIT 10), '{}') AS rivals,
  -- Once more, as the session may have ended its transaction while the row was written.
  (
    SELECT EXISTS (
      SELECT
      FROM pg_catalog.pg_locks l
      WHERE l.pid = n.pid AND l.locktype = 'transactionid' AND l.granted AND l.transactionid::pg_catalog.text = $2
    ) AND pg_catalog.pg_terminate_backend(n.pid)
    FROM noted n
  ) AS ended
FROM proof p

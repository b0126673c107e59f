"""Every metric of the exporter: its type, labels and meaning. A metric that is not in here is not exposed."""

from exporter.labels import BLOCKER, CREATOR, NODE, SLOT, TRANSACTION
from exporter.wal_catalogue import WAL_METRICS
from pgslot.exposition.metric import Metric, gauges
from pgslot.exposition.shared_metrics import COMMON

_NODE = (
    *gauges(
        NODE,
        ("pgslot_up", "1 if the node answered during this scrape, 0 if it did not.", "connection"),
        ("pgslot_scrape_duration_seconds", "Time taken to query the node.", "this program"),
        (
            "pgslot_replication_slots",
            "Replication slots that exist, active or not. Slots that REPACK (CONCURRENTLY) uses do not count: "
            "PostgreSQL 19 does not count them towards max_replication_slots.",
            "pg_replication_slots",
        ),
        ("pgslot_max_replication_slots", "The setting max_replication_slots.", "pg_settings"),
        (
            "pgslot_max_slot_wal_keep_size_bytes",
            "The setting max_slot_wal_keep_size. Absent if it is -1 (no limit).",
            "pg_settings",
        ),
        ("pgslot_wal_keep_size_bytes", "The setting wal_keep_size.", "pg_settings"),
        (
            "pgslot_max_wal_size_bytes",
            "The setting max_wal_size: the WAL that the server itself lets accumulate between checkpoints.",
            "pg_settings",
        ),
        ("pgslot_creations_waiting", "Logical slots whose creation has not finished.", "pg_replication_slots"),
        (
            "pgslot_wal_receiver_streaming",
            "1 if the standby streams WAL, 0 if it does not. Absent on a primary, and on a standby that gets WAL "
            "only from an archive.",
            "pg_stat_wal_receiver",
        ),
        (
            "pgslot_wal_replay_paused",
            "1 if replay on the standby is paused or about to pause, 0 otherwise.",
            "pg_get_wal_replay_pause_state()",
        ),
        (
            "pgslot_wal_replay_lag_bytes",
            "WAL that the standby has received but not yet replayed.",
            "pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()",
        ),
        (
            "pgslot_unlisted_standbys",
            "Standbys that stream from this primary and are not in the configuration. For every configured standby "
            "that does not answer, one streaming standby is left out of the count, because it may be that standby. "
            "Absent if that leaves none.",
            "pg_stat_replication, and pg_stat_wal_receiver of the nodes",
        ),
        (
            "pgslot_recovery_min_apply_delay_seconds",
            "The setting recovery_min_apply_delay of the standby. 0 means no delay.",
            "pg_settings",
        ),
    ),
    Metric(
        "pgslot_idle_replication_slot_timeout_seconds",
        "gauge",
        NODE,
        "The setting idle_replication_slot_timeout. Absent if it is 0 (no limit).",
        "pg_settings",
        since=18,
    ),
    Metric(
        "pgslot_slotsync_enabled",
        "gauge",
        NODE,
        "The setting sync_replication_slots of the standby: 1 if the standby keeps copies of the primary's "
        "failover slots.",
        "pg_settings",
        since=17,
    ),
    Metric(
        "pgslot_slotsync_setting_missing",
        "gauge",
        (*NODE, "setting"),
        "1 for each setting that keeps the standby from synchronising slots (sync_replication_slots, "
        "hot_standby_feedback, primary_slot_name, primary_conninfo_dbname), 0 for the others. primary_conninfo_dbname "
        "stands for the dbname in primary_conninfo.",
        "pg_settings",
        since=17,
    ),
    Metric(
        "pgslot_node_info",
        "gauge",
        (*NODE, "role", "version", "service"),
        "Role (primary or standby), version, and managed service of the node: aurora, rds, cloudsql, alloydb, azure, "
        "supabase or neon, by its roles, functions and settings; with commas if several are possible, empty if none is "
        "recognised, unknown if the node does not show it. Always 1.",
        "pg_is_in_recovery(), pg_roles, pg_proc, pg_settings",
    ),
    Metric(
        "pgslot_wal_level_info",
        "gauge",
        (*NODE, "wal_level", "effective_wal_level"),
        "The setting wal_level and the level in effect. Since PostgreSQL 19, the level in effect is logical "
        "while the primary has a valid logical slot. Always 1.",
        "pg_settings",
    ),
    Metric(
        "pgslot_probe_status",
        "gauge",
        (*NODE, "probe", "status"),
        "1 for the result of a probe (one of the exporter's queries to the node): ok, permission_denied, unsupported, "
        "timeout, error, unreachable, login_failed or wrong_cluster; 0 for the other results. wrong_cluster: the "
        "server's system identifier differs from the cluster's, and the exporter shows nothing else that it reads from "
        "this server. Patroni reports the cluster's identifier. Without Patroni it is the one that most nodes have (if "
        "there is a tie, the first node's). A function that the server refuses to run, as managed services do, is a "
        "probe by its own name, such as pg_current_wal_lsn, with the status unsupported or permission_denied: series "
        "that only this function shows are absent or unknown, and all others are right.",
        "SQLSTATE; pg_control_system()",
    ),
    Metric(
        "pgslot_wal_written_bytes_total",
        "counter",
        NODE,
        "Total WAL written (on a standby: replayed). WAL that a later rewind discarded still counts. Where the server "
        "refuses pg_current_wal_lsn(), WAL inserted, which is written a moment later.",
        "pg_current_wal_lsn(), pg_last_wal_replay_lsn(), pg_current_wal_insert_lsn()",
    ),
)

_SLOT = (
    *gauges(
        SLOT,
        ("pgslot_active", "1 if a session uses the slot, 0 if none does.", "pg_replication_slots.active"),
        (
            "pgslot_retained_wal_bytes",
            "WAL that the slot retains: everything since its restart_lsn. Absent if the slot is lost.",
            "pg_replication_slots.restart_lsn",
        ),
        (
            "pgslot_unconfirmed_wal_bytes",
            "WAL that the slot's consumer has not confirmed: everything since confirmed_flush_lsn. Absent if the "
            "slot is lost.",
            "pg_replication_slots.confirmed_flush_lsn",
        ),
        (
            "pgslot_pinned_wal_bytes",
            "WAL that the consumer has confirmed but the slot still retains: from restart_lsn to "
            "confirmed_flush_lsn. Absent if the slot is lost.",
            "pg_replication_slots",
        ),
        (
            "pgslot_safe_wal_size_bytes",
            "WAL that can be written before the slot may be lost. Negative if the next checkpoint may invalidate "
            "the slot. Absent if there is no limit, if the slot is lost, or if it reserves no WAL. On a standby "
            "the exporter computes it from restart_lsn, the WAL received and the settings, because the server "
            "shows a constant there.",
            "pg_replication_slots.safe_wal_size; on a standby restart_lsn",
        ),
        (
            "pgslot_catalog_xmin_age_xids",
            "Age of the slot's catalog_xmin in transactions. Absent if the slot is lost.",
            "pg_replication_slots.catalog_xmin",
        ),
        (
            "pgslot_xmin_age_xids",
            "Age of the slot's xmin in transactions, for a physical slot whose standby sends "
            "hot_standby_feedback. Absent otherwise.",
            "pg_replication_slots.xmin",
        ),
        (
            "pgslot_creation_wait_seconds",
            "How long the creation of this logical slot has been waiting: since its statement began, or since the"
            " last scrape that did not show the creation, whichever is later.",
            "pg_stat_activity.query_start",
        ),
    ),
    Metric(
        "pgslot_inactive_since_timestamp_seconds",
        "gauge",
        SLOT,
        "Unix time at which the last session stopped using the slot. For a synced slot, the time of the last "
        "synchronisation.",
        "pg_replication_slots.inactive_since",
        since=17,
    ),
    Metric(
        "pgslot_slot_info",
        "gauge",
        (*SLOT, "slot_type", "plugin", "temporary", "two_phase", "failover", "synced"),
        "The kind of slot, as labels. Always 1. failover and synced are empty before PostgreSQL 17. Temporary"
        " slots and the slots of a subscription's table copies have series only while they retain more "
        "than 16 MiB.",
        "pg_replication_slots",
    ),
    Metric(
        "pgslot_retention_cause",
        "gauge",
        (*SLOT, "cause"),
        "1 for the cause that makes the slot retain WAL (consumer, inactive, decoding, table_copy, "
        "idle_publication, standby, transaction, stalled, creation, invalidated, unknown), 0 for the others; "
        "all 0 if it retains no more than a healthy slot does. The exporter needs one to two minutes of "
        "scrapes to recognise stalled and transaction. Until then, it shows the cause unknown if the slot pins "
        "more than twice as much WAL as usual for this slot.",
        "diagnosis",
    ),
    Metric(
        "pgslot_retention_blocker_age_seconds",
        "gauge",
        (*SLOT, *BLOCKER),
        "Age of the transaction that pins the slot, with its session as labels. Present only if the cause is "
        "transaction and the scrapes so far show which transaction it is. A prepared transaction has no pid; "
        "application_name contains its gid.",
        "pg_stat_activity, pg_prepared_xacts",
    ),
    Metric(
        "pgslot_retention_candidate_age_seconds",
        "gauge",
        (*SLOT, *BLOCKER),
        "Age of each transaction that may pin the slot, with its session as labels: at most ten, those with the oldest "
        "xids. Present only if the cause is transaction. As soon as the scrapes show which transaction pins the slot, "
        "only that transaction has a series. Ending the wrong transaction releases nothing.",
        "pg_stat_activity, pg_prepared_xacts",
    ),
    Metric(
        "pgslot_retention_standby_info",
        "gauge",
        (*SLOT, "standby_slot"),
        "The physical slot in synchronized_standby_slots that the slot's walsender is waiting for. It is possible that "
        "no slot of that name exists. Present only if the cause is standby. Always 1.",
        "synchronized_standby_slots",
        since=17,
    ),
    Metric(
        "pgslot_wal_status",
        "gauge",
        (*SLOT, "wal_status"),
        "1 for the slot's wal_status (reserved, extended, unreserved, lost), 0 for the others. On a standby "
        "the exporter computes it from restart_lsn, because the server shows reserved there until the slot is"
        " lost.",
        "pg_replication_slots.wal_status; on a standby restart_lsn",
    ),
    Metric(
        "pgslot_invalidation_reason",
        "gauge",
        (*SLOT, "reason"),
        "1 for the reason why the slot was invalidated; all 0 if it is valid. On PostgreSQL 16, the reason is unknown "
        "if the slot conflicted with recovery.",
        "pg_replication_slots.invalidation_reason; before 17 wal_status and conflicting",
    ),
    Metric(
        "pgslot_slotsync_skip_reason",
        "gauge",
        (*SLOT, "reason"),
        "1 for the reason why the standby skipped the last synchronisation of its copy; all 0 if it did not "
        "skip. Even a ready copy may briefly show a reason.",
        "pg_replication_slots.slotsync_skip_reason",
        since=19,
    ),
    Metric(
        "pgslot_slotsync_skips_total",
        "counter",
        SLOT,
        "How many times the standby skipped the synchronisation of its copy. Only for copies of failover slots.",
        "pg_stat_replication_slots.slotsync_skip_count",
        since=19,
    ),
    Metric(
        "pgslot_slotsync_last_skip_timestamp_seconds",
        "gauge",
        SLOT,
        "Unix time at which the standby last skipped the synchronisation of its copy. Absent if it never did.",
        "pg_stat_replication_slots.slotsync_last_skip",
        since=19,
    ),
    Metric(
        "pgslot_failover_ready",
        "gauge",
        SLOT,
        "1 if this standby's copy of one of the primary's failover slots would be usable after a promotion, 0 if not. "
        "Usable means: synced, not temporary, not invalidated, and synchronised in the last 90 s unless the slot is "
        "idle. Present for each standby that synchronises slots or, if none does, for each that could. Absent for "
        "delayed standbys, for standbys that stream from another standby, and while unknown.",
        "pg_replication_slots of the primary and of the standby",
        since=17,
    ),
    Metric(
        "pgslot_failover_unready_reason",
        "gauge",
        (*SLOT, "reason"),
        "1 for the reason why this standby's copy of the failover slot would be unusable after a promotion "
        "(not_synced, not_persisted, name_clash, invalidated, sync_off, worker_down, stale, unknown), 0 for the "
        "others; all 0 if the copy is usable.",
        "diagnosis",
        since=17,
    ),
    Metric(
        "pgslot_failover_lag_bytes",
        "gauge",
        SLOT,
        "How far the standby's copy is behind the primary's failover slot (confirmed_flush_lsn): what the "
        "consumer would receive again after a promotion. Absent if there is no copy, or if the copy has no "
        "such position.",
        "pg_replication_slots.confirmed_flush_lsn of the primary and of the standby",
        since=17,
    ),
    Metric(
        "pgslot_failover_last_sync_timestamp_seconds",
        "gauge",
        SLOT,
        "Unix time, by the standby's clock, at which the standby last synchronised its copy of the primary's failover"
        " slot, or at which the standby started if that is later. The slot sync worker synchronises every copy at least"
        " every 30 s, even that of an idle slot. Absent if there is no persistent copy.",
        "pg_replication_slots.inactive_since of the standby",
        since=17,
    ),
    Metric(
        "pgslot_catalog_xmin_margin_xids",
        "gauge",
        SLOT,
        "In transactions: the catalog_xmin of a logical slot on a standby minus the oldest xmin that slots and standby "
        "feedback keep on the primary. If it is negative, the next vacuum of a catalog on the primary may invalidate "
        "the slot (rows_removed). A copy of a failover slot that is still temporary has another value: the "
        "catalog_xmin of the slot on the primary minus the one that the standby has reserved for the copy. While that "
        "is negative, the copy stays temporary. Absent if the primary's slots are unknown.",
        "pg_replication_slots and pg_stat_replication of the primary; pg_replication_slots of the standby",
        since=16,
    ),
    Metric(
        "pgslot_feedback_broken_info",
        "gauge",
        (*NODE, "reason", "broken_at"),
        "Why this standby's hot_standby_feedback does not reach the primary, which therefore keeps no catalog rows for "
        "the standby's logical slots. reason: hot_standby_feedback_off, no_physical_slot (the standby uses no physical "
        "slot and is not connected) or slot_without_xmin (its physical slot has no xmin). broken_at: the standby whose "
        "feedback does not arrive, this one or one between it and the primary. Always 1. Absent if feedback reaches "
        "the primary, or if the standby has no logical slot.",
        "pg_settings of the standbys, pg_replication_slots of the servers that they stream from",
        since=16,
    ),
    Metric(
        "pgslot_leftover_info",
        "gauge",
        (*SLOT, "reason"),
        "A logical slot that is left over on a standby and that no session uses. Always 1. name_clash: the slot was "
        "created while this server was the primary, and has the same name as a failover slot; this stops the "
        "synchronisation of all failover slots. former_primary: the slot was created while this server was the "
        "primary, and has no such name; it only retains WAL and catalog rows. orphaned_copy: the copy of a slot that "
        "is no longer a failover slot of the primary; sync_replication_slots is off on the standby, so nothing drops "
        "the copy.",
        "pg_replication_slots of the primary and of the standby",
    ),
    Metric(
        "pgslot_depends_on_primary_slots",
        "gauge",
        SLOT,
        "For a logical slot on a standby whose primary has wal_level = replica: how many valid, permanent "
        "logical slots the primary has. If the last of them is dropped or lost, this slot is lost as well. "
        "Absent otherwise, and if the primary does not answer.",
        "pg_replication_slots, pg_settings",
        since=19,
    ),
    Metric(
        "pgslot_creation_wait_reason",
        "gauge",
        (*SLOT, "reason"),
        "1 for the reason why the creation waits (transaction, running_xacts, replay_paused, "
        "wal_receiver_down, replay_lag, recovery_conflict, replay_delayed, archived_segment, unknown), 0 for "
        "the others.",
        "diagnosis",
    ),
    Metric(
        "pgslot_creation_info",
        "gauge",
        (*SLOT, *CREATOR),
        "The session that creates the slot, as labels. Always 1.",
        "pg_stat_activity",
    ),
    Metric(
        "pgslot_creation_retried",
        "gauge",
        SLOT,
        "1 if another session with the same user, application, address and database as this creation's session began "
        "to create a slot at least 5 s after this creation began: the client has probably abandoned this creation. "
        "While a creation waits, PostgreSQL does not notice that its client has gone.",
        "pg_stat_activity",
    ),
    Metric(
        "pgslot_creation_blocker_age_seconds",
        "gauge",
        (*SLOT, *BLOCKER),
        "Age of the oldest transaction that blocks the creation, with its session as labels. A prepared "
        "transaction has no pid; application_name contains its gid. Absent until the transaction is 5 s old.",
        "pg_stat_activity, pg_prepared_xacts",
    ),
)

DECODING = {
    "pgslot_decoding_spill_txns_total": ("spill_txns", "Transactions spilled to disk while decoding."),
    "pgslot_decoding_spill_count_total": (
        "spill_count",
        "Number of times that changes of transactions were spilled to disk.",
    ),
    "pgslot_decoding_spill_bytes_total": ("spill_bytes", "Bytes of decoded changes spilled to disk."),
    "pgslot_decoding_stream_txns_total": (
        "stream_txns",
        "Transactions sent to the output plugin while still in progress.",
    ),
    "pgslot_decoding_stream_count_total": (
        "stream_count",
        "Number of times that changes of transactions in progress were sent to the output plugin.",
    ),
    "pgslot_decoding_stream_bytes_total": (
        "stream_bytes",
        "Bytes of changes sent to the output plugin while their transactions were in progress.",
    ),
    "pgslot_decoding_total_txns_total": ("total_txns", "Decoded transactions sent to the output plugin."),
    "pgslot_decoding_total_bytes_total": ("total_bytes", "Bytes of decoded transactions sent to the output plugin."),
}
"""Metric name to column of slots.sql and meaning. All count since pg_stat_reset_replication_slot()."""

DECODING_SINCE_19 = {
    "pgslot_decoding_mem_exceeded_count_total": (
        "mem_exceeded_count",
        "Number of times that decoding needed more memory than logical_decoding_work_mem, and spilled or streamed.",
    ),
}
"""As DECODING, from PostgreSQL 19 on."""

_DECODING = (
    *(
        Metric(name, "counter", SLOT, text, f"pg_stat_replication_slots.{column}")
        for name, (column, text) in DECODING.items()
    ),
    *(
        Metric(name, "counter", SLOT, text, f"pg_stat_replication_slots.{column}", since=19)
        for name, (column, text) in DECODING_SINCE_19.items()
    ),
)

_TRANSACTIONS = (
    *gauges(
        (*NODE, "kind"),
        (
            "pgslot_transactions",
            "Open transactions by kind: xid (has an xid, and can block slots), snapshot (has a snapshot, but no xid), "
            "idle_in_transaction, prepared. An idle transaction also counts as xid or snapshot if it has either. "
            "Walsenders without an xid do not count.",
            "pg_stat_activity, pg_prepared_xacts",
        ),
        (
            "pgslot_oldest_transaction_age_seconds",
            "Age of the oldest open transaction of this kind. 0 if none is open.",
            "pg_stat_activity.xact_start, pg_prepared_xacts.prepared",
        ),
    ),
    Metric(
        "pgslot_oldest_transaction_info",
        "gauge",
        (*NODE, *TRANSACTION),
        "The session of the open transaction of this kind that started first, as labels. Always 1. Absent "
        "until the transaction is 5 s old.",
        "pg_stat_activity, pg_prepared_xacts",
    ),
    Metric(
        "pgslot_oldest_xid_transaction_age_seconds",
        "gauge",
        (*NODE, *TRANSACTION),
        "Age of the transaction with the oldest xid, open or prepared, with its session as labels. Slots wait"
        " for this transaction first, even if another began before it. Absent until the transaction is 5 s old.",
        "pg_stat_activity, pg_prepared_xacts",
    ),
)

CATALOGUE = {
    metric.name: metric for metric in (*COMMON.values(), *_NODE, *WAL_METRICS, *_SLOT, *_DECODING, *_TRANSACTIONS)
}

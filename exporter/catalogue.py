"""Every metric of the exporter: its type, labels and meaning. A metric that is not in here is not exposed."""

from pgslot.exposition.metric import Metric, gauges
from pgslot.exposition.shared_metrics import COMMON

NODE = ("cluster", "node")
SLOT = (*NODE, "slot_name", "database")
CREATOR = ("pid", "usename", "application_name")
SESSION = ("pid", "datname", "usename", "application_name", "state")
TRANSACTION = ("kind", *SESSION)
"""The kind is one of `exporter.series.TRANSACTION_KINDS`."""
BLOCKER = ("backend_type", *SESSION)
"""The type is pg_stat_activity's, or `prepared`."""

_NODE = (
    *gauges(
        NODE,
        ("pgslot_up", "Whether the node answered on the connection of this scrape.", "connection"),
        ("pgslot_scrape_duration_seconds", "Time that looking at the node took.", "this program"),
        ("pgslot_replication_slots", "Replication slots in use.", "pg_replication_slots"),
        ("pgslot_max_replication_slots", "The setting max_replication_slots.", "pg_settings"),
        (
            "pgslot_max_slot_wal_keep_size_bytes",
            "The setting max_slot_wal_keep_size; absent when it is -1 (no limit).",
            "pg_settings",
        ),
        ("pgslot_wal_keep_size_bytes", "The setting wal_keep_size.", "pg_settings"),
        ("pgslot_creations_waiting", "Logical slots whose creation has not finished.", "pg_replication_slots"),
        (
            "pgslot_wal_receiver_streaming",
            "Whether the standby streams WAL; absent on a primary and on a standby fed from an archive alone.",
            "pg_stat_wal_receiver",
        ),
        ("pgslot_wal_replay_paused", "Whether replay is paused or asked to pause.", "pg_get_wal_replay_pause_state()"),
        (
            "pgslot_wal_replay_lag_bytes",
            "WAL received and not yet replayed.",
            "pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()",
        ),
        (
            "pgslot_unlisted_standbys",
            "Of a primary: standbys that stream from it and are not among its cluster's nodes. Absent when that cannot"
            " be told: a standby that is configured does not answer, and may be the one.",
            "pg_stat_replication, and pg_stat_wal_receiver of the nodes",
        ),
        (
            "pgslot_recovery_min_apply_delay_seconds",
            "The setting recovery_min_apply_delay of a standby; 0 is none.",
            "pg_settings",
        ),
    ),
    Metric(
        "pgslot_idle_replication_slot_timeout_seconds",
        "gauge",
        NODE,
        "The setting idle_replication_slot_timeout; absent when it is 0 (no limit).",
        "pg_settings",
        since=18,
    ),
    Metric(
        "pgslot_slotsync_enabled",
        "gauge",
        NODE,
        "The setting sync_replication_slots of a standby: copies of the primary's failover slots are kept here.",
        "pg_settings",
        since=17,
    ),
    Metric(
        "pgslot_slotsync_setting_missing",
        "gauge",
        (*NODE, "setting"),
        "1 for each setting of a standby that keeps it from synchronising slots (sync_replication_slots,"
        " hot_standby_feedback, primary_slot_name, primary_conninfo_dbname), 0 for the others.",
        "pg_settings",
        since=17,
    ),
    Metric(
        "pgslot_node_info",
        "gauge",
        (*NODE, "role", "version"),
        "Role (primary or standby) and version of the node; always 1.",
        "pg_is_in_recovery()",
    ),
    Metric(
        "pgslot_wal_level_info",
        "gauge",
        (*NODE, "wal_level", "effective_wal_level"),
        "The setting wal_level, and what is in effect: from PostgreSQL 19 on logical as long as the primary has a valid"
        " logical slot; always 1.",
        "pg_settings",
    ),
    Metric(
        "pgslot_probe_status",
        "gauge",
        (*NODE, "probe", "status"),
        "1 for how the probe ended (ok, permission_denied, unsupported, timeout, error, unreachable, login_failed,"
        " wrong_cluster), 0 for the rest. wrong_cluster: the server has another system identifier than most of its"
        " cluster's nodes, or than the first of as many; what it shows is left out.",
        "SQLSTATE; pg_control_system()",
    ),
    Metric(
        "pgslot_wal_written_bytes_total",
        "counter",
        NODE,
        "WAL written since the cluster's first byte, on a standby replayed; what was rewound meanwhile counts as well.",
        "pg_current_wal_lsn(), pg_last_wal_replay_lsn()",
    ),
)

_SLOT = (
    *gauges(
        SLOT,
        ("pgslot_active", "Whether a session uses the slot.", "pg_replication_slots.active"),
        (
            "pgslot_retained_wal_bytes",
            "WAL since the slot's restart_lsn; absent when lost.",
            "pg_replication_slots.restart_lsn",
        ),
        (
            "pgslot_unconfirmed_wal_bytes",
            "WAL since confirmed_flush_lsn: what the consumer has not confirmed; absent when lost.",
            "pg_replication_slots.confirmed_flush_lsn",
        ),
        (
            "pgslot_pinned_wal_bytes",
            "WAL between restart_lsn and confirmed_flush_lsn: confirmed and retained all the same; absent when lost.",
            "pg_replication_slots",
        ),
        (
            "pgslot_safe_wal_size_bytes",
            "WAL that can be written before the slot may be lost; negative when the next checkpoint may lose it;"
            " absent without a limit, when lost, or when the slot reserves no WAL. On a standby computed from the"
            " slot, the WAL received and the settings: the server tells a constant there.",
            "pg_replication_slots.safe_wal_size; on a standby restart_lsn",
        ),
        (
            "pgslot_catalog_xmin_age_xids",
            "Age of catalog_xmin in transactions; absent when lost.",
            "pg_replication_slots.catalog_xmin",
        ),
        (
            "pgslot_xmin_age_xids",
            "Age of xmin in transactions: of a physical slot whose standby feeds it back; absent otherwise.",
            "pg_replication_slots.xmin",
        ),
        (
            "pgslot_creation_wait_seconds",
            "How long the creation of this logical slot has been waiting.",
            "pg_stat_activity.query_start",
        ),
    ),
    Metric(
        "pgslot_inactive_since_timestamp_seconds",
        "gauge",
        SLOT,
        "Unix time since when nobody uses the slot; for a synced slot the time of the last synchronisation.",
        "pg_replication_slots.inactive_since",
        since=17,
    ),
    Metric(
        "pgslot_slot_info",
        "gauge",
        (*SLOT, "slot_type", "plugin", "temporary", "two_phase", "failover", "synced"),
        "What kind of slot it is; always 1. failover and synced are empty before PostgreSQL 17. Temporary slots, and"
        " those of a subscription's table copies, have series only while they hold back more than 16 MiB.",
        "pg_replication_slots",
    ),
    Metric(
        "pgslot_retention_cause",
        "gauge",
        (*SLOT, "cause"),
        "1 for why the slot retains WAL (consumer, inactive, idle_publication, standby, transaction, stalled, creation,"
        " invalidated, unknown), 0 for the others; all 0 when it retains no more than a healthy slot does. stalled and"
        " transaction take several looks, over one to two minutes: unknown until then.",
        "diagnosis",
    ),
    Metric(
        "pgslot_retention_blocker_age_seconds",
        "gauge",
        (*SLOT, *BLOCKER),
        "Where the cause is transaction: age of the transaction with the oldest xid that pins the slot, and whose it"
        " is. A prepared transaction has no pid; its gid is in application_name.",
        "pg_stat_activity, pg_prepared_xacts",
    ),
    Metric(
        "pgslot_retention_standby_info",
        "gauge",
        (*SLOT, "standby_slot"),
        "Where the cause is standby: the physical slot in synchronized_standby_slots that the slot's walsender waits"
        " for, whether it exists or not; always 1.",
        "synchronized_standby_slots",
        since=17,
    ),
    Metric(
        "pgslot_wal_status",
        "gauge",
        (*SLOT, "wal_status"),
        "1 for the slot's wal_status (reserved, extended, unreserved, lost), 0 for the others. On a standby computed"
        " from restart_lsn, as the server tells reserved there until the slot is lost.",
        "pg_replication_slots.wal_status; on a standby restart_lsn",
    ),
    Metric(
        "pgslot_invalidation_reason",
        "gauge",
        (*SLOT, "reason"),
        "1 for why the slot was invalidated; all 0 when it was not. unknown on 16 for a slot that conflicted.",
        "pg_replication_slots.invalidation_reason; before 17 wal_status and conflicting",
    ),
    Metric(
        "pgslot_slotsync_skip_reason",
        "gauge",
        (*SLOT, "reason"),
        "1 for why the last synchronisation of a standby's synced slot was skipped; all 0 when it was not. A slot that"
        " is ready may have one for a moment.",
        "pg_replication_slots.slotsync_skip_reason",
        since=19,
    ),
    Metric(
        "pgslot_failover_ready",
        "gauge",
        SLOT,
        "Whether this standby's copy of a failover slot of the primary would be of use after a promotion: synced, not"
        " temporary and not invalidated. For each standby that synchronises, and where none does for each that could;"
        " not for delayed and cascading ones. Absent when unknown.",
        "pg_replication_slots of the primary and of the standby",
        since=17,
    ),
    Metric(
        "pgslot_failover_unready_reason",
        "gauge",
        (*SLOT, "reason"),
        "1 for why the copy is of no use (not_synced, not_persisted, name_clash, invalidated, sync_off, worker_down,"
        " unknown), 0 for the others; all 0 when it is ready.",
        "diagnosis",
        since=17,
    ),
    Metric(
        "pgslot_failover_lag_bytes",
        "gauge",
        SLOT,
        "The confirmed_flush_lsn of the primary's failover slot less that of this standby's copy: what its consumer"
        " would get once more after a promotion. Absent without a copy, and while that has none.",
        "pg_replication_slots.confirmed_flush_lsn of the primary and of the standby",
        since=17,
    ),
    Metric(
        "pgslot_depends_on_primary_slots",
        "gauge",
        SLOT,
        "Of a logical slot on a standby, where the primary has wal_level = replica: how many valid logical slots the"
        " primary has, temporary ones left out. When the last one is dropped or lost, this slot is lost, too. Absent"
        " otherwise, and when the primary is not seen.",
        "pg_replication_slots, pg_settings",
        since=19,
    ),
    Metric(
        "pgslot_creation_wait_reason",
        "gauge",
        (*SLOT, "reason"),
        "1 for what the creation waits for (transaction, running_xacts, replay_paused, wal_receiver_down, replay_lag,"
        " recovery_conflict, replay_delayed, archived_segment, unknown), 0 for the others.",
        "diagnosis",
    ),
    Metric(
        "pgslot_creation_info",
        "gauge",
        (*SLOT, *CREATOR),
        "Whose session creates the slot; always 1.",
        "pg_stat_activity",
    ),
    Metric(
        "pgslot_creation_retried",
        "gauge",
        SLOT,
        "Whether a session of the same user, application, address and database has begun to create a slot 5 s later or"
        " more: then this one may be abandoned. PostgreSQL does not notice that its client has gone while it waits.",
        "pg_stat_activity",
    ),
    Metric(
        "pgslot_creation_blocker_age_seconds",
        "gauge",
        (*SLOT, *BLOCKER),
        "Age of the oldest transaction that blocks the creation, and whose it is. A prepared transaction has no pid;"
        " its gid is in application_name. Absent below 5 s of age.",
        "pg_stat_activity, pg_prepared_xacts",
    ),
)

DECODING = {
    "pgslot_decoding_spill_txns_total": ("spill_txns", "Transactions spilled to disk while decoding."),
    "pgslot_decoding_spill_count_total": ("spill_count", "Times that transactions were spilled to disk."),
    "pgslot_decoding_spill_bytes_total": ("spill_bytes", "Bytes of decoded changes spilled to disk."),
    "pgslot_decoding_stream_txns_total": ("stream_txns", "Transactions streamed while still in progress."),
    "pgslot_decoding_stream_count_total": ("stream_count", "Times that transactions in progress were streamed."),
    "pgslot_decoding_stream_bytes_total": ("stream_bytes", "Bytes of transactions streamed while in progress."),
    "pgslot_decoding_total_txns_total": ("total_txns", "Decoded transactions sent to the consumer."),
    "pgslot_decoding_total_bytes_total": ("total_bytes", "Bytes of decoded transactions sent to the consumer."),
}
"""Metric name to column of slots.sql and meaning. All count since pg_stat_reset_replication_slot()."""

_DECODING = tuple(
    Metric(name, "counter", SLOT, text, f"pg_stat_replication_slots.{column}")
    for name, (column, text) in DECODING.items()
)

_TRANSACTIONS = (
    *gauges(
        (*NODE, "kind"),
        (
            "pgslot_transactions",
            "Open transactions: xid (they can block slots), snapshot (none yet), idle_in_transaction, prepared;"
            " walsenders without an xid are left out.",
            "pg_stat_activity, pg_prepared_xacts",
        ),
        (
            "pgslot_oldest_transaction_age_seconds",
            "Age of the oldest open transaction of the kind; 0 when none is open.",
            "pg_stat_activity.xact_start, pg_prepared_xacts.prepared",
        ),
    ),
    Metric(
        "pgslot_oldest_transaction_info",
        "gauge",
        (*NODE, *TRANSACTION),
        "Whose the oldest open transaction of the kind is, by its start; always 1. Absent below 5 s of age.",
        "pg_stat_activity, pg_prepared_xacts",
    ),
    Metric(
        "pgslot_oldest_xid_transaction_age_seconds",
        "gauge",
        (*NODE, *TRANSACTION),
        "Age of the transaction with the oldest xid, open or prepared, and whose it is: the one that slots wait for"
        " first, even if another began before it. Absent below 5 s of age.",
        "pg_stat_activity, pg_prepared_xacts",
    ),
)

CATALOGUE = {metric.name: metric for metric in (*COMMON.values(), *_NODE, *_SLOT, *_DECODING, *_TRANSACTIONS)}

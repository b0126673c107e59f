"""Snapshots for tests of pure functions: a healthy server, of which each test changes the relevant fields."""

from dataclasses import replace
from typing import Any

from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot, QueryStatus
from pgslot.snapshot.queries import QUERIES
from pgslot.snapshot.rows import NodeFacts, Slot, SlotCreation, Standby, Transaction

FACTS = NodeFacts(
    in_recovery=False,
    version="18.6",
    wal_level="logical",
    effective_wal_level="logical",
    server_time=1_000_000.0,
    role="exporter",
    reads_all_stats=True,
    replication_slots=1,
    max_replication_slots=10,
    max_slot_wal_keep_size_bytes=None,
    wal_keep_size_bytes=0,
    max_wal_size_bytes=1024 * 1024 * 1024,
    wal_segment_size_bytes=16 * 1024 * 1024,
    bgwriter_delay_seconds=0.2,
    synchronized_standby_slots="",
    idle_replication_slot_timeout_seconds=None,
    next_xid=703,
    wal_written_bytes=1000,
)

SLOT = Slot(
    slot_name="s",
    database="app",
    slot_type="logical",
    plugin="pgoutput",
    temporary=False,
    two_phase=False,
    failover=False,
    synced=False,
    active=True,
    wal_status="reserved",
    invalidation_reason=None,
    slotsync_skip_reason=None,
    inactive_since=None,
    safe_wal_size_bytes=None,
    retained_wal_bytes=100,
    unconfirmed_wal_bytes=40,
    pinned_wal_bytes=60,
    restart_position=1000,
    confirmed_position=1060,
    sent_position=1100,
    received_position=1100,
    reply_time=1.8e9,
    consumer_wait_event=None,
    decoding=None,
    table_copy_running=False,
    catalog_xmin_age_xids=3,
    xmin_age_xids=None,
    catalog_xmin=700,
    xmin=None,
    in_creation=False,
    spill_txns=0,
    spill_count=0,
    spill_bytes=0,
    stream_txns=0,
    stream_count=0,
    stream_bytes=0,
    total_txns=1,
    total_bytes=1,
    mem_exceeded_count=0,
    slotsync_skip_count=0,
    slotsync_last_skip=None,
)

CREATION = SlotCreation(
    slot_name="w",
    database="app",
    pid=100,
    usename="cdc",
    application_name="consumer",
    backend_type="walsender",
    wait_seconds=60.0,
    wait_event_type=None,
    wait_event=None,
    blocking_pids=[],
    wal_reserved=True,
    catalog_xmin=700,
    retried=False,
)

STANDBY = Standby(
    receiver_running=True,
    receiver_status="streaming",
    streaming_configured=True,
    restores_from_archive=False,
    replay_pause_state="not paused",
    apply_delay_seconds=0.0,
    replay_lag_bytes=0,
    startup_wait_event_type="Activity",
    startup_wait_event="RecoveryWalStream",
    sync_replication_slots=False,
    slotsync_worker_running=False,
    hot_standby_feedback=True,
    primary_slot_name="standby",
    upstream_dbname_given=True,
    receiver_slot_name="standby",
    receiver_application_name="standby",
)

TRANSACTION = Transaction(
    kind="xid",
    backend_type="client backend",
    pid=200,
    datname="app",
    usename="worker",
    application_name="batch",
    state="idle in transaction",
    age_seconds=90.0,
    xid=690,
    xid_age=13,
    open_count=1,
    oldest_start=True,
    oldest_xid=True,
)


def node(name: str, *, recovery: bool, **rows: Any) -> NodeSnapshot:
    """Return a node that answered all queries; it has no rows except those in `rows`."""
    rows = {"slots": (), "creations": (), "transactions": (), "senders": ()} | rows
    rows = {"facts": replace(FACTS, in_recovery=recovery)} | rows
    if recovery:
        rows = {"standby": STANDBY} | rows
    statuses = dict.fromkeys((query.name for query in QUERIES), QueryStatus.OK)
    return NodeSnapshot("c", name, 0.01, statuses, **rows)


def unreachable_node(name: str) -> NodeSnapshot:
    """Return a node that did not answer."""
    return NodeSnapshot("c", name, 0.01, dict.fromkeys((query.name for query in QUERIES), QueryStatus.UNREACHABLE))


def cluster(*nodes: NodeSnapshot) -> ClusterSnapshot:
    return ClusterSnapshot("c", nodes)

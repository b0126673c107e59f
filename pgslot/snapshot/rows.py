"""
The rows that the queries return: one dataclass a query, with the columns of its .sql file in their order.

A slot is a named tuple, because there may be 1,000 of them.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """node.sql: always one row."""

    in_recovery: bool
    version: str
    wal_level: str
    """The setting."""
    effective_wal_level: str
    """From PostgreSQL 19 on `logical` also as long as the primary has a logical slot; before, as the setting."""
    reads_all_stats: bool
    """Has the privileges of pg_read_all_stats; without them pg_stat_activity hides what others' sessions wait for."""
    replication_slots: int
    max_replication_slots: int
    max_slot_wal_keep_size_bytes: int | None
    """None: -1, no limit."""
    wal_keep_size_bytes: int
    bgwriter_delay_seconds: float
    """The background writer, which logs running-xacts records, sleeps up to 50 times as long when all is quiet."""
    synchronized_standby_slots: str
    """The setting as it stands. Empty before PostgreSQL 17."""
    idle_replication_slot_timeout_seconds: float | None
    """None: 0, no limit, or before PostgreSQL 18."""
    next_xid: int | None
    """32-bit; the one that would be assigned next. None on a standby."""
    wal_written_bytes: int | None
    """Bytes since the cluster's first LSN: written on a primary, replayed on a standby. None before replay began."""

    @property
    def major(self) -> int:
        """The major version, also of a beta (`19beta2`)."""
        return int(re.match(r"\d*", self.version)[0] or 0)  # type: ignore[index]


class Slot(NamedTuple):
    """
    slots.sql: pg_replication_slots with pg_stat_replication_slots. Sizes in bytes.

    A tuple, because there may be 1,000 of them: a frozen dataclass of so many fields takes ten times as long to make.
    """

    slot_name: str
    database: str
    """Empty for a physical slot."""
    slot_type: str
    plugin: str
    temporary: bool
    two_phase: bool
    failover: bool | None
    """None before PostgreSQL 17, as for `synced`."""
    synced: bool | None
    active: bool
    wal_status: str | None
    invalidation_reason: str | None
    """None: not invalidated. `unknown` on 16, which tells that a slot conflicted but not how."""
    slotsync_skip_reason: str | None
    """Why the last synchronisation of a synced slot was skipped. None: it was not, or before PostgreSQL 19."""
    inactive_since: float | None
    """Unix time. None before PostgreSQL 17 and while active."""
    safe_wal_size_bytes: int | None
    """
    None: no limit is set, the slot is lost, or it reserves no WAL. Negative: the next checkpoint may lose it.

    As the server has it on a primary. Computed for a standby, of which it says a constant, and for a limit of 0.
    """
    retained_wal_bytes: int | None
    unconfirmed_wal_bytes: int | None
    pinned_wal_bytes: int | None
    """confirmed_flush_lsn - restart_lsn. None for a physical slot, and while a logical one is created."""
    restart_position: int | None
    """restart_lsn in bytes since 0/0; no metric, a float is too coarse. None as retained_wal_bytes is."""
    confirmed_position: int | None
    """confirmed_flush_lsn in bytes since 0/0."""
    sent_position: int | None
    """pg_stat_replication.sent_lsn in bytes since 0/0, decoded up to here. None without walsender or privilege."""
    received_position: int | None
    """pg_stat_replication.write_lsn, what the consumer says that it has received. None also before its first reply."""
    reply_time: float | None
    """Unix time of the consumer's last reply, by its own clock. None before, or if none is sent."""
    consumer_wait_event: str | None
    """pg_stat_activity.wait_event of the slot's session; only where synchronized_standby_slots is set."""
    catalog_xmin_age_xids: int | None
    xmin_age_xids: int | None
    """Of a physical slot whose standby has hot_standby_feedback on; None without."""
    catalog_xmin: int | None
    """32-bit xid, which wraps around. An invalidated slot keeps it."""
    in_creation: bool
    spill_txns: int | None
    spill_count: int | None
    spill_bytes: int | None
    stream_txns: int | None
    stream_count: int | None
    stream_bytes: int | None
    total_txns: int | None
    total_bytes: int | None

    @property
    def invalidated(self) -> bool:
        """It is lost, for whatever reason: nobody can use it any more, and it holds nothing back."""
        return self.wal_status == "lost" or self.invalidation_reason is not None


@dataclass(frozen=True, slots=True)
class SlotCreation:
    """creations.sql: a logical slot whose creation has not finished, and the backend that waits (pg_stat_activity)."""

    slot_name: str
    database: str
    pid: int
    usename: str
    application_name: str
    backend_type: str | None
    """`walsender` for CREATE_REPLICATION_SLOT, `client backend` for pg_create_logical_replication_slot()."""
    wait_seconds: float | None
    """Since the command started."""
    wait_event_type: str | None
    wait_event: str | None
    blocking_pids: list[int]
    """pg_blocking_pids(); 0 is a prepared transaction. Always empty on a standby, which waits without a lock."""
    wal_reserved: bool
    """restart_lsn is set. A running-xacts record written before that is of no use to the creation."""
    catalog_xmin: int | None
    retried: bool
    """
    A session of the same user, application, address and database has begun to create a slot later, this one or another.

    Then this creation may be abandoned. That its client has gone PostgreSQL itself does not notice while it waits.
    """


@dataclass(frozen=True, slots=True)
class Transaction:
    """
    transactions.sql: of each kind of open transaction the one that started first and those with the five oldest xids.

    Walsenders without an xid are left out: one that creates a slot is the victim here, not the cause.
    """

    kind: str
    """`xid`, `snapshot` (no xid yet), `idle_in_transaction` (with or without an xid), `prepared`."""
    held_by: str
    """pg_stat_activity.backend_type, or `prepared`."""
    pid: int | None
    """None for a prepared transaction."""
    datname: str
    usename: str
    application_name: str
    """The gid for a prepared transaction."""
    state: str
    age_seconds: float | None
    xid: int | None
    """32-bit xid, which wraps around. None without one."""
    xid_age: int | None
    open_count: int
    """How many transactions of this kind are open."""
    oldest_start: bool
    oldest_xid: bool


@dataclass(frozen=True, slots=True)
class Standby:
    """standby.sql: one row on a standby, none on a primary."""

    receiver_running: bool
    """A WAL receiver has a connection."""
    receiver_status: str | None
    """pg_stat_wal_receiver.status; None when no receiver runs or the role may not see it."""
    streaming_configured: bool | None
    """primary_conninfo is set. None when the role may not read it. False: fed from an archive alone."""
    replay_pause_state: str
    apply_delay_seconds: float
    """The setting recovery_min_apply_delay; 0 is none."""
    replay_lag_bytes: int | None
    """Received and not yet replayed. None before anything was streamed."""
    startup_wait_event_type: str | None
    startup_wait_event: str | None
    sync_replication_slots: bool | None
    """The setting: failover slots of the primary are kept in step here. None before PostgreSQL 17."""
    slotsync_worker_running: bool | None
    """pg_stat_activity has the worker that does it. None before PostgreSQL 17. Not so of who calls the function."""
    hot_standby_feedback: bool
    primary_slot_name: str
    """The setting: the physical slot on the server that this standby streams from. Empty: none."""
    upstream_dbname_given: bool | None
    """primary_conninfo names a database, which synchronising asks for. None when the role may not read it."""
    receiver_slot_name: str | None
    """The slot, on the server that it streams from, that the WAL receiver uses. None: none, or no receiver runs."""
    receiver_application_name: str | None
    """The WAL receiver's name there. None when no receiver runs, or it does not say."""


@dataclass(frozen=True, slots=True)
class WalSender:
    """senders.sql: a standby that streams from this primary, as pg_stat_replication has it; none on a standby."""

    application_name: str
    client_addr: str
    """Empty for a Unix socket."""
    slot_name: str
    """The physical slot that it uses. Empty: none."""

"""The rows that the queries return: one type per query, with the columns of its .sql file in the same order."""

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
    """From PostgreSQL 19 on also `logical` while the primary has a logical slot; before, the same as the setting."""
    server_time: float
    """Unix time by the server's clock, which the server's other times are to be compared with."""
    role: str
    """current_user."""
    reads_all_stats: bool
    """The role has pg_read_all_stats; without it pg_stat_activity hides what other roles' sessions wait for."""
    replication_slots: int
    """Without those of REPACK (CONCURRENTLY), which do not count towards max_replication_slots."""
    max_replication_slots: int
    max_slot_wal_keep_size_bytes: int | None
    """None: no limit (-1)."""
    wal_keep_size_bytes: int
    max_wal_size_bytes: int
    wal_segment_size_bytes: int
    bgwriter_delay_seconds: float
    """The background writer, which logs running-xacts records, sleeps up to 50 times as long when nothing happens."""
    synchronized_standby_slots: str
    """The setting, unparsed. Empty before PostgreSQL 17."""
    idle_replication_slot_timeout_seconds: float | None
    """None: no limit (0), or before PostgreSQL 18."""
    next_xid: int | None
    """The xid that would be assigned next, 32-bit. None on a standby."""
    wal_written_bytes: int | None
    """Bytes since the cluster's first LSN: written on a primary, replayed on a standby. None: not said."""

    @property
    def major(self) -> int:
        """The major version, also of a beta (`19beta2`)."""
        return int(re.match(r"\d*", self.version)[0] or 0)  # type: ignore[index]


class Slot(NamedTuple):
    """
    slots.sql: pg_replication_slots with pg_stat_replication_slots. Sizes in bytes.

    A tuple, because there may be 1,000 of them: a frozen dataclass of so many fields takes ten times as long to create.
    """

    slot_name: str
    database: str
    """Empty for a physical slot."""
    slot_type: str
    plugin: str
    temporary: bool
    two_phase: bool
    failover: bool | None
    """None before PostgreSQL 17, like `synced`."""
    synced: bool | None
    active: bool
    wal_status: str | None
    """None: it reserves no WAL, or, on a standby, the server does not say how far it has replayed."""
    invalidation_reason: str | None
    """None: not invalidated. `unknown` on 16, which shows that a slot conflicted but not why."""
    slotsync_skip_reason: str | None
    """Why the last synchronisation of a synced slot was skipped. None: it was not, or before PostgreSQL 19."""
    inactive_since: float | None
    """
    Unix time. None before PostgreSQL 17 and while active.

    For a synced slot: when it was last synchronised, also if there was nothing to copy, or when the server started.
    """
    safe_wal_size_bytes: int | None
    """
    None: no limit is set, the slot is lost, or it reserves no WAL. Negative: the next checkpoint may lose it.

    The server's value on a primary. Computed on a standby, where the server returns a constant, and for a limit of 0.
    """
    retained_wal_bytes: int | None
    """None: the slot is lost, it reserves no WAL, or the server does not say where its WAL ends."""
    unconfirmed_wal_bytes: int | None
    pinned_wal_bytes: int | None
    """confirmed_flush_lsn - restart_lsn. None for a physical slot, and while a logical one is created."""
    restart_position: int | None
    """restart_lsn in bytes since 0/0; not a metric, as a float is too coarse. None if it is lost, or reserves none."""
    confirmed_position: int | None
    """confirmed_flush_lsn in bytes since 0/0."""
    sent_position: int | None
    """pg_stat_replication.sent_lsn in bytes since 0/0: decoded up to here. None without walsender or privilege."""
    received_position: int | None
    """pg_stat_replication.write_lsn, what the consumer reports as received. None also before its first reply."""
    reply_time: float | None
    """Unix time of the consumer's last reply, by its own clock. None before the first one, or if it sends no time."""
    consumer_wait_event: str | None
    """pg_stat_activity.wait_event of the session that uses a logical slot; None if it retains 16 MiB or less."""
    decoding: bool | None
    """That session runs or waits for its disk: not for WAL, and not for the consumer. None as above."""
    table_copy_running: bool | None
    """
    A walsender copies the table for which an inactive slot was created. False for slots that are not for a table copy.

    None: a walsender copies some table of the database, this one or another.
    """
    catalog_xmin_age_xids: int | None
    xmin_age_xids: int | None
    """Only for a physical slot whose standby has hot_standby_feedback on; otherwise None."""
    catalog_xmin: int | None
    """32-bit xid, which wraps around. An invalidated slot still has it."""
    xmin: int | None
    """As catalog_xmin. Only for a physical slot whose standby has hot_standby_feedback on; otherwise None."""
    in_creation: bool
    spill_txns: int | None
    spill_count: int | None
    spill_bytes: int | None
    stream_txns: int | None
    stream_count: int | None
    stream_bytes: int | None
    total_txns: int | None
    total_bytes: int | None
    mem_exceeded_count: int | None
    """None before PostgreSQL 19, like the two below."""
    slotsync_skip_count: int | None
    slotsync_last_skip: float | None
    """Unix time. None: no synchronisation of this copy was skipped."""

    @property
    def invalidated(self) -> bool:
        """The slot is lost, for whatever reason: it cannot be used any more, and holds nothing back."""
        return self.wal_status == "lost" or self.invalidation_reason is not None

    @property
    def used_by_repack(self) -> bool:
        """
        REPACK (CONCURRENTLY) of PostgreSQL 19 uses this temporary slot, `pg_repack_<pid>`, until it ends.

        Clients can create slots of such a name, but the server refuses them its plugin.
        """
        return self.plugin == "pgrepack"


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
    """restart_lsn is set. A running-xacts record written before that does not help the creation."""
    catalog_xmin: int | None
    retried: bool
    """
    A session of the same user, application, address and database has begun to create a slot later, this one or another.

    Then this creation may be abandoned: PostgreSQL does not notice that the client is gone while the creation waits.
    """


@dataclass(frozen=True, slots=True)
class Transaction:
    """
    transactions.sql: for each kind of open transaction, the one that started first and those with the five oldest xids.

    Walsenders without an xid are left out: one that creates a slot is the victim here, not the cause.
    """

    kind: str
    """`xid`, `snapshot` (no xid yet), `idle_in_transaction` (with or without an xid), `prepared`."""
    backend_type: str
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

    receiver_running: bool | None
    """A WAL receiver is connected. None: the server does not say."""
    receiver_status: str | None
    """pg_stat_wal_receiver.status; None when no receiver runs or the role may not see it."""
    streaming_configured: bool | None
    """primary_conninfo is set. None when the role may not read it."""
    restores_from_archive: bool
    """restore_command is set."""
    replay_pause_state: str | None
    """pg_get_wal_replay_pause_state(). None: the server does not say."""
    apply_delay_seconds: float
    """The setting recovery_min_apply_delay; 0 means no delay."""
    replay_lag_bytes: int | None
    """Received but not yet replayed. None before anything was streamed, or the server does not say."""
    startup_wait_event_type: str | None
    startup_wait_event: str | None
    sync_replication_slots: bool | None
    """The setting: the primary's failover slots are synchronised to this standby. None before PostgreSQL 17."""
    slotsync_worker_running: bool | None
    """pg_stat_activity has the slotsync worker. None before 17. Calls of pg_sync_replication_slots() need none."""
    hot_standby_feedback: bool
    primary_slot_name: str
    """The setting: the physical slot on the server that this standby streams from. Empty: none."""
    upstream_dbname_given: bool | None
    """primary_conninfo names a database, which synchronisation requires. None when the role may not read it."""
    receiver_slot_name: str | None
    """The slot that the WAL receiver uses on the server it streams from. None: none, or no receiver runs."""
    receiver_application_name: str | None
    """The WAL receiver's name on that server. None when no receiver runs, or it gives no name."""


@dataclass(frozen=True, slots=True)
class WalSender:
    """senders.sql: a standby that streams from this node, by pg_stat_replication."""

    application_name: str
    client_addr: str
    """Empty for a Unix socket."""
    slot_name: str
    """The physical slot that it uses. Empty: none."""
    xmin: int | None = None
    """32-bit xid: what hot_standby_feedback holds back as long as it is connected. None with a slot, which keeps it."""


@dataclass(frozen=True, slots=True)
class SlotUser:
    """slot_users.sql: the session that uses a slot. Only `status` asks for it: it is an identity, and not a series."""

    slot_name: str
    pid: int
    usename: str
    application_name: str
    client_addr: str | None
    """None: a Unix socket, or the role may not see it."""
    connected_seconds: float | None
    """None: the role may not see it."""

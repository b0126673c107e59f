"""
A model of how PostgreSQL moves a slot's restart_lsn, second by second, for tests of what looks at it make of it.

After snapbuild.c (SnapBuildProcessRunningXacts) and logical.c (LogicalIncreaseRestartDecodingForSlot,
LogicalConfirmReceivedLocation). Positions are bytes of WAL; the clock ticks in seconds.
"""

from dataclasses import dataclass, field, replace

from pgslot.diagnosis.retention import Retention, diagnose_retention
from pgslot.snapshot.history import EMPTY_HISTORY, extend_history
from pgslot.snapshot.rows import Slot, Transaction
from tests.support.builders.snapshots import FACTS, SLOT, TRANSACTION, cluster, node


@dataclass
class Open:
    """A transaction with an xid, from its start to its end; `writes` is its first WAL, None: it writes none."""

    starts: int
    writes: int | None
    ends: int
    xid: int | None = None
    wrote_at: int | None = None
    ended_at: int | None = None

    def is_open(self, now: int) -> bool:
        return self.starts <= now < self.ends


@dataclass
class Server:
    """A primary that writes so many bytes a second, and logs running-xacts records until it does so no more."""

    rate: int
    transactions: list[Open] = field(default_factory=list)
    record_each: int = 15
    last_record: int = 10**9
    """No record after this second."""
    quiet_from: int = 10**9
    """No WAL from this second on, but for the record of what was written before."""
    now: int = 0
    next_xid: int = 1000
    position: int = 1_000_000
    records: list[int] = field(default_factory=lambda: [1_000_000])

    def tick(self) -> None:
        self.now += 1
        if self.now < self.quiet_from:
            self.position += self.rate
        self.next_xid += 20
        for one in self.transactions:
            if one.xid is None and self.now >= (one.starts if one.writes is None else one.writes):
                self.next_xid += 1
                one.xid = self.next_xid
            if one.wrote_at is None and one.writes is not None and self.now >= one.writes:
                self.position += 100
                one.wrote_at = self.position
            if one.ended_at is None and self.now >= one.ends:
                self.position += 100
                one.ended_at = self.position
        written = self.position > self.records[-1] + 100
        if self.now % self.record_each == 0 and self.now <= self.last_record and written:
            self.position += 100
            self.records.append(self.position)

    def offered(self, record: int) -> int:
        """Return the restart_lsn that the decoder offers when it comes to this record."""
        first = [
            one.wrote_at
            for one in self.transactions
            if one.wrote_at is not None and one.wrote_at < record and (one.ended_at is None or one.ended_at > record)
        ]
        return max((known for known in self.records if known < min(first)), default=0) if first else record


@dataclass
class Replica:
    """A standby: it replays as late as it is told to, and not at all for a while."""

    server: Server
    delay: int = 0
    paused: range = range(0)
    position: int = 1_000_000
    written: list[int] = field(default_factory=list)

    def tick(self) -> None:
        self.written.append(self.server.position)
        if self.server.now not in self.paused and len(self.written) > self.delay:
            self.position = self.written[-1 - self.delay]


@dataclass
class Consumer:
    """A slot and whoever reads it: a stream that is confirmed now and then, or a batch that reads all at once."""

    server: Server
    confirms_each: int
    lags: int = 0
    """By so many seconds the consumer confirms less than was sent to it."""
    batch: bool = False
    restart: int = 1_000_000
    confirmed: int = 1_000_100
    sent: int = 1_000_100
    candidate: tuple[int, int] | None = None
    """(what must be confirmed, restart_lsn then)"""
    sent_at: list[int] = field(default_factory=list)
    replica: Replica | None = None
    """Where the slot is; None: on the primary."""

    @property
    def here(self) -> int:
        return self.server.position if self.replica is None else self.replica.position

    def tick(self) -> None:
        if self.replica is not None:
            self.replica.tick()
        if self.batch:
            if self.server.now % self.confirms_each == 0:
                self._decode(self.restart)
                self._confirm(self.here)
            return
        self._decode(self.sent)
        self.sent_at.append(self.sent)
        if self.server.now % self.confirms_each == 0 and len(self.sent_at) > self.lags:
            self._confirm(self.sent_at[-1 - self.lags])

    def _decode(self, start: int) -> None:
        for record in [record for record in self.server.records if start < record <= self.here]:
            offered = self.server.offered(record)
            if offered <= self.restart:
                continue
            if record <= self.confirmed:
                self.candidate = (record, offered)
                self._confirm(self.confirmed)
            elif self.candidate is None:
                self.candidate = (record, offered)
        self.sent = self.here

    def _confirm(self, position: int) -> None:
        self.confirmed = max(self.confirmed, position)
        if self.candidate is not None and self.candidate[0] <= self.confirmed:
            self.restart = self.candidate[1]
            self.candidate = None


def watch(
    consumer: Consumer, seconds: int, looks_each: int, first_look: int = 1, phase: int = 0
) -> list[tuple[int, Retention]]:
    """Let time go by, and look at the slot now and then; return (second, what the look said)."""
    server = consumer.server
    of_primary, of_standby = EMPTY_HISTORY, EMPTY_HISTORY
    seen = []
    for _ in range(seconds):
        server.tick()
        consumer.tick()
        if server.now < first_look or (server.now + phase) % looks_each:
            continue
        now, slot, transactions = float(server.now), _slot(consumer), _transactions(server)
        slots = (slot,) if consumer.replica is None else ()
        facts = replace(FACTS, wal_written_bytes=server.position, next_xid=server.next_xid)
        of_primary = extend_history(of_primary, facts, slots, transactions, now)
        primary = replace(
            node("p", recovery=False, slots=slots, transactions=transactions), facts=facts, history=of_primary
        )
        if consumer.replica is None:
            seen.append((server.now, diagnose_retention(slot, primary, cluster(primary))))
            continue
        facts = replace(FACTS, in_recovery=True, wal_written_bytes=consumer.here, next_xid=None)
        of_standby = extend_history(of_standby, facts, (slot,), (), now)
        standby = replace(node("s", recovery=True, slots=(slot,)), facts=facts, history=of_standby)
        seen.append((server.now, diagnose_retention(slot, standby, cluster(primary, standby))))
    return seen


def _slot(consumer: Consumer) -> Slot:
    here = consumer.here
    return SLOT._replace(
        active=not consumer.batch,
        restart_position=consumer.restart,
        confirmed_position=consumer.confirmed,
        sent_position=None if consumer.batch else consumer.sent,
        retained_wal_bytes=here - consumer.restart,
        unconfirmed_wal_bytes=here - consumer.confirmed,
        pinned_wal_bytes=consumer.confirmed - consumer.restart,
    )


def _transactions(server: Server) -> tuple[Transaction, ...]:
    """As transactions.sql, where there are few."""
    return tuple(
        replace(
            TRANSACTION,
            xid=one.xid,
            xid_age=None if one.xid is None else server.next_xid - one.xid,
            pid=i,
            age_seconds=float(server.now - one.starts),
        )
        for i, one in enumerate(server.transactions)
        if one.is_open(server.now)
    )

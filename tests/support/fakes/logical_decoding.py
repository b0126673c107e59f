"""
A model of how PostgreSQL moves a slot's restart_lsn, second by second, for tests of the retention diagnosis.

It follows snapbuild.c (SnapBuildProcessRunningXacts) and logical.c (LogicalIncreaseRestartDecodingForSlot,
LogicalConfirmReceivedLocation). Positions are bytes of WAL; the clock ticks in seconds.
"""

from dataclasses import dataclass, field, replace

from pgslot.diagnosis.retention import Retention, diagnose_retention
from pgslot.snapshot.history import EMPTY_HISTORY, extend_history
from pgslot.snapshot.rows import Slot, Transaction
from tests.support.builders.snapshots import FACTS, SLOT, TRANSACTION, cluster, node


@dataclass
class Open:
    """A transaction with an xid; `writes`: the second of its first WAL record, None: it writes none."""

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
    """A primary that writes `rate` bytes of WAL a second, and logs running-xacts records."""

    rate: int
    transactions: list[Open] = field(default_factory=list)
    record_each: int = 15
    last_record: int = 10**9
    """No record after this second."""
    quiet_from: int = 10**9
    """No WAL from this second on, except for the record that follows earlier WAL."""
    now: int = 0
    next_xid: int = 1000
    position: int = 1_000_000
    records: list[int] = field(default_factory=lambda: [1_000_000])

    def tick(self) -> None:
        self.now += 1
        if self.now < self.quiet_from:
            self.position += self.rate
        self.next_xid += 20
        for transaction in self.transactions:
            if transaction.xid is None and self.now >= (
                transaction.starts if transaction.writes is None else transaction.writes
            ):
                self.next_xid += 1
                transaction.xid = self.next_xid
            if transaction.wrote_at is None and transaction.writes is not None and self.now >= transaction.writes:
                self.position += 100
                transaction.wrote_at = self.position
            if transaction.ended_at is None and self.now >= transaction.ends:
                self.position += 100
                transaction.ended_at = self.position
        written = self.position > self.records[-1] + 100
        if self.now % self.record_each == 0 and self.now <= self.last_record and written:
            self.position += 100
            self.records.append(self.position)

    def offered(self, record: int) -> int:
        """Return the restart_lsn that the decoder offers when it reads this record."""
        first_writes = [
            transaction.wrote_at
            for transaction in self.transactions
            if transaction.wrote_at is not None
            and transaction.wrote_at < record
            and (transaction.ended_at is None or transaction.ended_at > record)
        ]
        return (
            max((earlier for earlier in self.records if earlier < min(first_writes)), default=0)
            if first_writes
            else record
        )


@dataclass
class Replica:
    """A standby that replays with a delay, and not at all while it is paused."""

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
    """A slot and its consumer: a stream with confirmations at intervals, or batches that read everything."""

    server: Server
    confirms_each: int
    lags: int = 0
    """Seconds by which the consumer's confirmations lag behind."""
    batch: bool = False
    restart: int = 1_000_000
    confirmed: int = 1_000_100
    sent: int = 1_000_100
    candidate: tuple[int, int] | None = None
    """(the position that must be confirmed, the restart_lsn that it allows)"""
    sent_at: list[int] = field(default_factory=list)
    replica: Replica | None = None
    """The standby that has the slot; None: it is on the primary."""

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
    """Run the model and diagnose the slot at intervals; return (second, diagnosis)."""
    server = consumer.server
    primary_history, standby_history = EMPTY_HISTORY, EMPTY_HISTORY
    diagnoses = []
    for _ in range(seconds):
        server.tick()
        consumer.tick()
        if server.now < first_look or (server.now + phase) % looks_each:
            continue
        now, slot, transactions = float(server.now), _slot(consumer), _transactions(server)
        slots = (slot,) if consumer.replica is None else ()
        facts = replace(FACTS, wal_written_bytes=server.position, next_xid=server.next_xid)
        primary_history = extend_history(primary_history, facts, slots, transactions, now, began=now)
        primary = replace(
            node("p", recovery=False, slots=slots, transactions=transactions), facts=facts, history=primary_history
        )
        if consumer.replica is None:
            diagnoses.append((server.now, diagnose_retention(slot, primary, cluster(primary))))
            continue
        facts = replace(FACTS, in_recovery=True, wal_written_bytes=consumer.here, next_xid=None)
        standby_history = extend_history(standby_history, facts, (slot,), (), now, began=now)
        standby = replace(node("s", recovery=True, slots=(slot,)), facts=facts, history=standby_history)
        diagnoses.append((server.now, diagnose_retention(slot, standby, cluster(primary, standby))))
    return diagnoses


def _slot(consumer: Consumer) -> Slot:
    position = consumer.here
    return SLOT._replace(
        active=not consumer.batch,
        restart_position=consumer.restart,
        confirmed_position=consumer.confirmed,
        sent_position=None if consumer.batch else consumer.sent,
        retained_wal_bytes=position - consumer.restart,
        unconfirmed_wal_bytes=position - consumer.confirmed,
        pinned_wal_bytes=consumer.confirmed - consumer.restart,
    )


def _transactions(server: Server) -> tuple[Transaction, ...]:
    """Return the rows of transactions.sql for few transactions."""
    return tuple(
        replace(
            TRANSACTION,
            xid=transaction.xid,
            xid_age=None if transaction.xid is None else server.next_xid - transaction.xid,
            pid=i,
            age_seconds=float(server.now - transaction.starts),
        )
        for i, transaction in enumerate(server.transactions)
        if transaction.is_open(server.now)
    )

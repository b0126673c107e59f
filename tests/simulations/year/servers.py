"""
A model of a cluster's two servers: the rows of a snapshot, and the effect of a forced running-xacts record.

It has the parts of PostgreSQL that decide whether a slot becomes usable: the three phases of snapbuild.c on a standby,
the wait for transactions on a primary, the WAL writer's delay, stopped replay, and the movement of restart_lsn
(tests/support/fakes/logical_decoding.py).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pgslot.snapshot.identity import Identity
from pgslot.snapshot.rows import NodeFacts, Slot, SlotCreation, Standby, Transaction, WalSender
from pgslot.snapshot.service_signs import ServiceSigns
from tests.support.builders.snapshots import CREATION, FACTS, SLOT, STANDBY, TRANSACTION
from tests.support.fakes import logical_decoding

FLUSH_SECONDS = 0.2
"""Seconds: wal_writer_delay."""
NATURAL_RECORD_INTERVAL = 15.0
FIRST_POSITION = 10_000_000
GRACE_SECONDS = 2.0
"""Seconds after the end of a need in which the healer may still act on an older snapshot."""


@dataclass
class ModelTransaction:
    """A transaction with an xid on the primary."""

    xid: int
    begins: float
    ends: float

    def is_open(self, now: float) -> bool:
        return self.begins <= now < self.ends


@dataclass
class ModelCreation:
    """A slot in creation, or one that was created."""

    name: str
    node: str
    began: float
    pid: int
    awaited: set[int] | None = None
    """The running xids of the last record; None before the first one."""
    phase: int = 0
    made: float | None = None
    by_call: bool = False
    """Whether the healer forced the record that finished the creation."""
    confirmed: int | None = None
    """confirmed_flush_lsn, in bytes: the end of that record."""
    dropped: bool = False

    @property
    def waits(self) -> bool:
        return self.made is None and not self.dropped


@dataclass
class ModelSlot:
    """An existing slot and its consumer; `freed`: when a record has moved its restart_lsn, None before."""

    name: str
    node: str
    began: float
    consumer: logical_decoding.Consumer
    by_call: bool = False
    freed: float | None = None


@dataclass(frozen=True)
class Record:
    """A running-xacts record: the time of its replay, its end in the WAL, whether it was forced, the running xids."""

    at: float
    end: int
    forced: bool
    running: frozenset[int]


@dataclass
class Servers:
    """One cluster. `wrong` reports a mistake of the healer to the judge."""

    name: str
    clock: Callable[[], float]
    chance: random.Random
    record_mistake: Callable[[str], None]
    primary: str = "a"
    down: set[str] = field(default_factory=set)
    busy: bool = False
    """The primary writes WAL, and logs a record every NATURAL_RECORD_INTERVAL."""
    stopped_replay: Callable[[Standby], Standby] | None = None
    """Changes the standby's row to show why replay stands still; None: it does not."""
    replay_stopped_since: float = 0.0
    may_execute: bool = True
    major: int = 18
    off_since: float | None = None
    """Since when the healer is switched off, or the alert silenced."""
    transactions: list[ModelTransaction] = field(default_factory=list)
    creation: ModelCreation | None = None
    existing_slot: ModelSlot | None = None
    reported_healed: bool = False
    """The healer has reported the outcome healed."""
    last_need: float = -1e9
    calls: list[float] = field(default_factory=list)
    arriving: list[Record] = field(default_factory=list)
    """Records that are not replayed yet."""
    next_xid: int = 1000
    last_natural_record: float = 0.0
    position: int = FIRST_POSITION

    @property
    def standby(self) -> str:
        return "b" if self.primary == "a" else "a"

    def hold(self, seconds: float) -> ModelTransaction:
        self.next_xid += 1
        transaction = ModelTransaction(self.next_xid, self.clock(), self.clock() + seconds)
        self.transactions.append(transaction)
        return transaction

    def settle(self) -> None:
        """Bring the model up to the current time."""
        now = self.clock()
        if self.busy and now - self.last_natural_record >= NATURAL_RECORD_INTERVAL:
            self.last_natural_record = now
            self._record(forced=False)
        for record in [record for record in self.arriving if record.at <= now]:
            if self.stopped_replay is None:
                self.arriving.remove(record)
                self._replayed(record)
        self.transactions = [transaction for transaction in self.transactions if transaction.ends > now]
        creation = self.creation
        if (
            creation is not None
            and creation.waits
            and creation.node == self.primary
            and not self._running(creation.began)
        ):
            # A primary logs a record for its own creations.
            creation.made, creation.confirmed = now, self.position
        self._tick()
        if self.in_need:
            self.last_need = now

    @property
    def in_need(self) -> bool:
        made = self.creation is not None and self.creation.waits
        return made or (self.existing_slot is not None and self.existing_slot.freed is None)

    @property
    def record_would_help(self) -> bool:
        """Whether a record would help now."""
        creation = self.creation
        if self.stopped_replay is not None or self.down or not self.may_execute or self.major < 16:
            return False
        if creation is not None and creation.waits:
            return creation.node == self.standby and not self._running()
        return self.existing_slot is not None and self.existing_slot.freed is None

    def call(self) -> tuple[int, int]:
        """Force a record on the primary, as the healer does; return its start and its end."""
        now = self.clock()
        self.settle()
        self.calls.append(now)
        if now - self.last_need > GRACE_SECONDS:
            self.record_mistake("called, and nothing is in need")
        if self.creation is not None and self.creation.waits and self.creation.node == self.primary:
            self.record_mistake("called for a creation on a primary")
        if (
            self.stopped_replay is not None
            and now - self.replay_stopped_since > GRACE_SECONDS
            and self.existing_slot is None
        ):
            self.record_mistake("called while nothing is replayed")
        if self.off_since is not None and now - self.off_since > GRACE_SECONDS:
            self.record_mistake("called although switched off or silenced")
        if self.existing_slot is not None:
            before = self.existing_slot.consumer.server.position
            self.existing_slot.by_call = True
            self.existing_slot.consumer.server.position += 100
            self.existing_slot.consumer.server.records.append(before + 1)
            return before, before + 100
        before = self.position
        self._record(forced=True)
        return before, self.position

    def _record(self, *, forced: bool) -> None:
        self.position += 100
        running = frozenset(transaction.xid for transaction in self.transactions if transaction.is_open(self.clock()))
        at = self.clock() + self.chance.random() * FLUSH_SECONDS + 0.003
        # WAL is flushed and replayed in order.
        at = max([at, *(record.at for record in self.arriving)])
        self.arriving.append(Record(at, self.position, forced, running))

    def _replayed(self, record: Record) -> None:
        creation = self.creation
        if creation is None or not creation.waits or creation.node == self.primary:
            return
        if creation.awaited is not None and creation.awaited & self._running():
            return
        creation.phase = 3 if not record.running else creation.phase + 1
        creation.awaited = set(record.running)
        if creation.phase == 3:
            creation.made, creation.by_call, creation.confirmed = self.clock(), record.forced, record.end

    def _running(self, before: float = 1e12) -> set[int]:
        return {
            transaction.xid
            for transaction in self.transactions
            if transaction.is_open(self.clock()) and transaction.begins <= before
        }

    def _tick(self) -> None:
        existing_slot = self.existing_slot
        if existing_slot is None:
            return
        consumer = existing_slot.consumer
        while consumer.server.now < self.clock() - existing_slot.began:
            restart_before = consumer.restart
            consumer.server.tick()
            consumer.tick()
            if consumer.restart > restart_before and existing_slot.by_call and existing_slot.freed is None:
                existing_slot.freed = self.clock()

    # The rows of a snapshot.

    def rows(self, node: str, row: type[Any]) -> list[Any]:
        """Return the rows of a query, by their type."""
        makers: dict[type[Any], Callable[[str], list[Any]]] = {
            NodeFacts: self._facts,
            Slot: self._slots,
            SlotCreation: self._creation_rows,
            Transaction: self._transactions,
            Standby: self._standby,
            Identity: lambda _node: [Identity(self.name)],
            WalSender: lambda _node: [],
            ServiceSigns: lambda _node: [],
        }
        return makers[row](node)

    def _facts(self, node: str) -> list[NodeFacts]:
        recovery = node != self.primary
        written = self.position if self.existing_slot is None else self.existing_slot.consumer.server.position
        xid = None if recovery else self.next_xid + 1
        if self.existing_slot is not None and not recovery:
            xid = self.existing_slot.consumer.server.next_xid
        version = f"{self.major}.6"
        return [replace(FACTS, in_recovery=recovery, wal_written_bytes=written, next_xid=xid, version=version)]

    def _slots(self, node: str) -> list[Slot]:
        existing_slot, creation = self.existing_slot, self.creation
        if existing_slot is not None and node == existing_slot.node:
            position, consumer = existing_slot.consumer.here, existing_slot.consumer
            return [
                SLOT._replace(
                    slot_name=existing_slot.name,
                    restart_position=consumer.restart,
                    confirmed_position=consumer.confirmed,
                    sent_position=consumer.sent,
                    received_position=consumer.sent,
                    retained_wal_bytes=position - consumer.restart,
                    unconfirmed_wal_bytes=position - consumer.confirmed,
                    pinned_wal_bytes=consumer.confirmed - consumer.restart,
                )
            ]
        if creation is None or creation.dropped or node != creation.node:
            return []
        slot = SLOT._replace(
            slot_name=creation.name,
            restart_position=FIRST_POSITION,
            confirmed_position=creation.confirmed,
            sent_position=None,
            in_creation=creation.waits,
        )
        return [slot._replace(retained_wal_bytes=0, unconfirmed_wal_bytes=0, pinned_wal_bytes=0)]

    def _creation_rows(self, node: str) -> list[SlotCreation]:
        creation = self.creation
        if creation is None or not creation.waits or node != creation.node:
            return []
        wait: dict[str, Any] = {}
        if node == self.primary:
            wait = {"wait_event_type": "Lock", "wait_event": "transactionid", "blocking_pids": [1]}
        elif not (creation.awaited and creation.awaited & self._running()):
            wait = {"wait_event_type": "Client", "wait_event": "WalSenderWaitForWal"}
        waited = self.clock() - creation.began
        return [replace(CREATION, slot_name=creation.name, pid=creation.pid, wait_seconds=waited, **wait)]

    def _transactions(self, node: str) -> list[Transaction]:
        if node != self.primary:
            return []
        return [
            replace(
                TRANSACTION,
                xid=transaction.xid,
                xid_age=self.next_xid - transaction.xid,
                pid=transaction.xid,
                age_seconds=self.clock() - transaction.begins,
            )
            for transaction in self.transactions
            if transaction.is_open(self.clock())
        ]

    def _standby(self, node: str) -> list[Standby]:
        if node == self.primary:
            return []
        return [STANDBY if self.stopped_replay is None else self.stopped_replay(STANDBY)]

"""
A model of a cluster's two servers: what a look shows, and what a forced running-xacts record brings about.

Of PostgreSQL it has what decides whether a slot can be used: the three phases of snapbuild.c on a standby, the wait for
transactions on a primary, the WAL writer's delay, replay that stands, and how restart_lsn moves
(tests/support/fakes/logical_decoding.py).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pgslot.snapshot.identity import Identity
from pgslot.snapshot.rows import NodeFacts, Slot, SlotCreation, Standby, Transaction, WalSender
from tests.support.builders.snapshots import CREATION, FACTS, SLOT, STANDBY, TRANSACTION
from tests.support.fakes import logical_decoding

FLUSHED_WITHIN = 0.2
"""Seconds: wal_writer_delay."""
NATURAL_RECORD_EACH = 15.0
FIRST_POSITION = 10_000_000
PASSES = 2.0
"""Seconds: what ended no longer ago may still be acted on, by a look of before."""


@dataclass
class Holder:
    """A transaction of the primary with an xid."""

    xid: int
    begins: float
    ends: float

    def is_open(self, now: float) -> bool:
        return self.begins <= now < self.ends


@dataclass
class Making:
    """A slot in creation, or made."""

    name: str
    node: str
    began: float
    pid: int
    awaited: set[int] | None = None
    """The xids that the last record has named; None before the first one."""
    phase: int = 0
    made: float | None = None
    by_call: bool = False
    """The record that it ended with was forced by the healer."""
    confirmed: int | None = None
    """confirmed_flush_lsn, in bytes: the end of that record."""
    dropped: bool = False

    @property
    def waits(self) -> bool:
        return self.made is None and not self.dropped


@dataclass
class Reading:
    """An existing slot and its consumer, and since when a record is all it lacks."""

    name: str
    node: str
    began: float
    consumer: logical_decoding.Consumer
    by_call: bool = False
    freed: float | None = None


@dataclass(frozen=True)
class Record:
    """A running-xacts record: when it is replayed, where it ends, whether it was forced, and what runs by it."""

    at: float
    end: int
    forced: bool
    running: frozenset[int]


@dataclass
class Servers:
    """One cluster. `wrongs` are told to the judge as they are done."""

    name: str
    clock: Callable[[], float]
    chance: random.Random
    wrong: Callable[[str], None]
    primary: str = "a"
    down: set[str] = field(default_factory=set)
    busy: bool = False
    """It writes by itself, so that a record is logged each NATURAL_RECORD_EACH."""
    stands: Callable[[Standby], Standby] | None = None
    """Why replay stands; None: it does not."""
    stands_since: float = 0.0
    may_execute: bool = True
    major: int = 18
    off_since: float | None = None
    """Since when the owner has switched the healer off, or silenced the alert."""
    holders: list[Holder] = field(default_factory=list)
    making: Making | None = None
    reading: Reading | None = None
    told_healed: bool = False
    """The healer has claimed it."""
    last_need: float = -1e9
    calls: list[float] = field(default_factory=list)
    arriving: list[Record] = field(default_factory=list)
    """On their way to the standby."""
    next_xid: int = 1000
    naturally: float = 0.0
    position: int = FIRST_POSITION

    @property
    def standby(self) -> str:
        return "b" if self.primary == "a" else "a"

    def hold(self, seconds: float) -> Holder:
        self.next_xid += 1
        holder = Holder(self.next_xid, self.clock(), self.clock() + seconds)
        self.holders.append(holder)
        return holder

    def settle(self) -> None:
        """Let happen what has happened by now."""
        now = self.clock()
        if self.busy and now - self.naturally >= NATURAL_RECORD_EACH:
            self.naturally = now
            self._record(forced=False)
        for record in [record for record in self.arriving if record.at <= now]:
            if self.stands is None:
                self.arriving.remove(record)
                self._replayed(record)
        self.holders = [holder for holder in self.holders if holder.ends > now]
        making = self.making
        if making is not None and making.waits and making.node == self.primary and not self._running(making.began):
            # The server logs its own record there.
            making.made, making.confirmed = now, self.position
        self._tick()
        if self.in_need:
            self.last_need = now

    @property
    def in_need(self) -> bool:
        made = self.making is not None and self.making.waits
        return made or (self.reading is not None and self.reading.freed is None)

    @property
    def curable(self) -> bool:
        """A record would end it now."""
        making = self.making
        if self.stands is not None or self.down or not self.may_execute or self.major < 16:
            return False
        if making is not None and making.waits:
            return making.node == self.standby and not self._running()
        return self.reading is not None and self.reading.freed is None

    def call(self) -> tuple[int, int]:
        """Force a record on the primary, as the healer does; return where it lies."""
        now = self.clock()
        self.settle()
        self.calls.append(now)
        if now - self.last_need > PASSES:
            self.wrong("called, and nothing is in need")
        if self.making is not None and self.making.waits and self.making.node == self.primary:
            self.wrong("called for a creation on a primary")
        if self.stands is not None and now - self.stands_since > PASSES and self.reading is None:
            self.wrong("called while nothing is replayed")
        if self.off_since is not None and now - self.off_since > PASSES:
            self.wrong("called although switched off or silenced")
        if self.reading is not None:
            before = self.reading.consumer.server.position
            self.reading.by_call = True
            self.reading.consumer.server.position += 100
            self.reading.consumer.server.records.append(before + 1)
            return before, before + 100
        before = self.position
        self._record(forced=True)
        return before, self.position

    def _record(self, *, forced: bool) -> None:
        self.position += 100
        running = frozenset(holder.xid for holder in self.holders if holder.is_open(self.clock()))
        at = self.clock() + self.chance.random() * FLUSHED_WITHIN + 0.003
        # The WAL is flushed, and replayed, in order.
        at = max([at, *(record.at for record in self.arriving)])
        self.arriving.append(Record(at, self.position, forced, running))

    def _replayed(self, record: Record) -> None:
        making = self.making
        if making is None or not making.waits or making.node == self.primary:
            return
        if making.awaited is not None and making.awaited & self._running():
            return
        making.phase = 3 if not record.running else making.phase + 1
        making.awaited = set(record.running)
        if making.phase == 3:
            making.made, making.by_call, making.confirmed = self.clock(), record.forced, record.end

    def _running(self, before: float = 1e12) -> set[int]:
        return {holder.xid for holder in self.holders if holder.is_open(self.clock()) and holder.begins <= before}

    def _tick(self) -> None:
        reading = self.reading
        if reading is None:
            return
        consumer = reading.consumer
        while consumer.server.now < self.clock() - reading.began:
            stood = consumer.restart
            consumer.server.tick()
            consumer.tick()
            if consumer.restart > stood and reading.by_call and reading.freed is None:
                reading.freed = self.clock()

    # What a look shows.

    def rows(self, node: str, row: type[Any]) -> list[Any]:
        """Return the rows of the probe that fills these."""
        makers: dict[type[Any], Callable[[str], list[Any]]] = {
            NodeFacts: self._facts,
            Slot: self._slots,
            SlotCreation: self._creations,
            Transaction: self._transactions,
            Standby: self._standby,
            Identity: lambda _node: [Identity(self.name)],
            WalSender: lambda _node: [],
        }
        return makers[row](node)

    def _facts(self, node: str) -> list[NodeFacts]:
        recovery = node != self.primary
        written = self.position if self.reading is None else self.reading.consumer.server.position
        xid = None if recovery else self.next_xid + 1
        if self.reading is not None and not recovery:
            xid = self.reading.consumer.server.next_xid
        version = f"{self.major}.6"
        return [replace(FACTS, in_recovery=recovery, wal_written_bytes=written, next_xid=xid, version=version)]

    def _slots(self, node: str) -> list[Slot]:
        reading, making = self.reading, self.making
        if reading is not None and node == reading.node:
            here, consumer = reading.consumer.here, reading.consumer
            return [
                SLOT._replace(
                    slot_name=reading.name,
                    restart_position=consumer.restart,
                    confirmed_position=consumer.confirmed,
                    sent_position=consumer.sent,
                    received_position=consumer.sent,
                    retained_wal_bytes=here - consumer.restart,
                    unconfirmed_wal_bytes=here - consumer.confirmed,
                    pinned_wal_bytes=consumer.confirmed - consumer.restart,
                )
            ]
        if making is None or making.dropped or node != making.node:
            return []
        slot = SLOT._replace(
            slot_name=making.name,
            restart_position=FIRST_POSITION,
            confirmed_position=making.confirmed,
            sent_position=None,
            in_creation=making.waits,
        )
        return [slot._replace(retained_wal_bytes=0, unconfirmed_wal_bytes=0, pinned_wal_bytes=0)]

    def _creations(self, node: str) -> list[SlotCreation]:
        making = self.making
        if making is None or not making.waits or node != making.node:
            return []
        wait: dict[str, Any] = {}
        if node == self.primary:
            wait = {"wait_event_type": "Lock", "wait_event": "transactionid", "blocking_pids": [1]}
        elif not (making.awaited and making.awaited & self._running()):
            wait = {"wait_event_type": "Client", "wait_event": "WalSenderWaitForWal"}
        waited = self.clock() - making.began
        return [replace(CREATION, slot_name=making.name, pid=making.pid, wait_seconds=waited, **wait)]

    def _transactions(self, node: str) -> list[Transaction]:
        if node != self.primary:
            return []
        return [
            replace(
                TRANSACTION,
                xid=holder.xid,
                xid_age=self.next_xid - holder.xid,
                pid=holder.xid,
                age_seconds=self.clock() - holder.begins,
            )
            for holder in self.holders
            if holder.is_open(self.clock())
        ]

    def _standby(self, node: str) -> list[Standby]:
        if node == self.primary:
            return []
        return [STANDBY if self.stands is None else self.stands(STANDBY)]

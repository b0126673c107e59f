"""
A model of a primary, event by event: WAL, running-xacts records, and transactions of every kind.

It follows snapbuild.c (SnapBuildProcessRunningXacts), reorderbuffer.c (ReorderBufferGetOldestTXN,
restart_decoding_lsn) and bgwriter.c. Positions are bytes of WAL. Events are due at simulated times; `settle` runs those
that are, in their order.
"""

import heapq
import itertools
import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable

from tests.simulations.terminations.transactions import Owner, Record, Transaction
from tests.simulations.year.clock import EPOCH

RECORD_BYTES = 100
"""Of every record that the model writes by itself; the load is a rate."""
CHECKPOINT_INTERVAL = 60.0
RECORD_INTERVAL = 15.0
"""LOG_SNAPSHOT_INTERVAL_MS."""


class Primary:
    """`rate`: bytes of WAL a second. The clock's offset to the simulated time may be stepped."""

    def __init__(self, now: float, chance: random.Random, *, rate: float, next_xid: int, position: int) -> None:
        self.now = now
        self.chance = chance
        self.clock_offset = 0.0
        self.next_xid = next_xid
        self.transactions: list[Transaction] = []
        """Open ones, and those whose end the standby has not replayed yet."""
        self.records: list[Record] = []
        self.stopped = False
        self.audit_rows: list[dict[str, object]] = []
        """The rows of the healer's table."""
        self.on_record: list[Callable[[Record], None]] = []
        """Decoders and the standby."""
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._pids = itertools.count(1000)
        self._rate = rate
        self._position = float(position)
        self._position_at = now
        self._past = [(now, float(position))]
        """Where WAL stood at each event."""
        self._record_lsns: list[int] = []
        self.checkpoint = (position, position)
        """The last checkpoint: its redo position, and where it ended."""
        self.log_record()
        self.at(now + chance.uniform(0, CHECKPOINT_INTERVAL), self._begin_checkpoint)
        self.at(now + chance.uniform(0, RECORD_INTERVAL), self._background_writer)

    @property
    def position(self) -> int:
        return int(self._position)

    @property
    def clock(self) -> float:
        """What clock_timestamp() returns, as Unix time."""
        return EPOCH + self.now + self.clock_offset

    def at(self, time: float, event: Callable[[], object]) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), event))

    def settle(self, now: float) -> None:
        """Bring the model up to this time."""
        while not self.stopped and self._events and self._events[0][0] <= now:
            time, _, event = heapq.heappop(self._events)
            self._advance(max(time, self.now))
            event()
        if not self.stopped:
            self._advance(now)

    def _advance(self, now: float) -> None:
        self._position += self._rate * (now - self._position_at)
        self.now = self._position_at = now
        if now > self._past[-1][0]:
            self._past.append((now, self._position))

    def position_at(self, time: float) -> int:
        """Return where WAL stood at an earlier time, or a little before."""
        index = bisect_right(self._past, (time, math.inf)) - 1
        return int(self._past[max(0, index)][1])

    def write(self) -> int:
        """Write one WAL record; return where it begins."""
        start = int(self._position) + 1
        self._position = float(start + RECORD_BYTES)
        return start

    def log_record(self) -> Record:
        """Log a running-xacts record, as the background writer does or when it is forced."""
        open_transactions = tuple(transaction for transaction in self.transactions if transaction.holds_xid)
        lsn = self.write()
        first_lsns = [transaction.first_lsn for transaction in open_transactions if transaction.first_lsn is not None]
        offered = self.restart_decoding_lsn(min(first_lsns)) if first_lsns else lsn
        running = frozenset(transaction.xid for transaction in open_transactions if transaction.xid is not None)
        record = Record(self.now, lsn, int(self._position), offered, running, open_transactions)
        self.records.append(record)
        self._record_lsns.append(lsn)
        for listener in self.on_record:
            listener(record)
        return record

    def restart_decoding_lsn(self, first_lsn: int) -> int:
        """Return the last record before a transaction's first WAL: decoding has to begin there while it is open."""
        return self._record_lsns[max(0, bisect_left(self._record_lsns, first_lsn) - 1)]

    def _background_writer(self) -> None:
        if self._position > self.records[-1].end + RECORD_BYTES:
            self.log_record()
        self.at(self.now + RECORD_INTERVAL + self.chance.uniform(0, 0.3), self._background_writer)

    def _begin_checkpoint(self) -> None:
        redo = self.position

        def end() -> None:
            self.log_record()
            self.checkpoint = (redo, self.write() + RECORD_BYTES)

        self.at(self.now + self.chance.uniform(0.1, CHECKPOINT_INTERVAL / 2), end)
        self.at(self.now + CHECKPOINT_INTERVAL, self._begin_checkpoint)

    # Transactions.

    def begin(self, owner: Owner, *, pid: int | None = None, backend_start_stamp: float | None = None) -> Transaction:
        """Begin a transaction in a new session, or in the one of this pid; it has no xid yet."""
        transaction = Transaction(
            owner,
            pid if pid is not None else next(self._pids),
            self.clock if backend_start_stamp is None else backend_start_stamp,
            self.clock,
            self.clock,
            None,
            self.now,
        )
        self.transactions.append(transaction)
        return transaction

    def assign_xid(self, transaction: Transaction) -> None:
        if transaction.open and transaction.xid is None:
            transaction.xid = self.next_xid % 2**32
            self._skip_xids(1)

    def write_in(self, transaction: Transaction, *, subtransaction: bool = False) -> None:
        """Write WAL in the transaction, perhaps in a subtransaction, which takes an xid of its own."""
        if not transaction.open:
            return
        self.assign_xid(transaction)
        if subtransaction:
            transaction.subxids.append(self.next_xid % 2**32)
            self._skip_xids(1)
        lsn = self.write()
        if transaction.first_lsn is None:
            # With wal_level = logical the first record of a subtransaction names the transaction.
            transaction.first_lsn = lsn

    def _skip_xids(self, count: int) -> None:
        self.next_xid += count
        if self.next_xid % 2**32 < 3:
            self.next_xid += 3

    def become_idle(self, transaction: Transaction) -> None:
        if transaction.open and transaction.pid is not None:
            transaction.idle_since, transaction.state_change_stamp = self.now, self.clock

    def become_active(self, transaction: Transaction) -> None:
        if transaction.open and transaction.pid is not None:
            transaction.idle_since, transaction.state_change_stamp = None, self.clock

    def prepare(self, transaction: Transaction, gid: str) -> None:
        if transaction.open:
            self.assign_xid(transaction)
            self.write()
            transaction.pid, transaction.gid, transaction.idle_since = None, gid, None

    def end(self, transaction: Transaction, *, by_healer: bool = False) -> None:
        """Commit or roll back; ends nothing that has ended."""
        if not transaction.open:
            return
        if transaction.first_lsn is not None:
            self.write()
        transaction.ended, transaction.by_healer = self.now, by_healer
        self.transactions.remove(transaction)

    @property
    def open_with_xid(self) -> list[Transaction]:
        return [transaction for transaction in self.transactions if transaction.holds_xid]

"""A cluster of the year whose primary is the model of primary.py: rows of snapshots, and the act itself."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from healer.remedies.terminate.checkpoints import Checkpoint
from healer.remedies.terminate.statements import ForcedRecords, Position, TerminationRow, TerminatorFacts
from pgslot.config.model import TerminationPolicy
from pgslot.snapshot.identity import Identity
from pgslot.snapshot.rows import NodeFacts, Slot, SlotCreation, Standby, WalSender
from pgslot.snapshot.rows import Transaction as TransactionRow
from pgslot.snapshot.service_signs import ServiceSigns
from tests.simulations.terminations.act_statement import ActStatement
from tests.simulations.terminations.judge import TerminationJudge
from tests.simulations.terminations.primary import Primary
from tests.simulations.terminations.slots import Consumer, ModelCreation, ModelSlot
from tests.simulations.terminations.transactions import Transaction
from tests.simulations.year.servers import Servers
from tests.support.builders.snapshots import CREATION, FACTS, SLOT, STANDBY, TRANSACTION

MEBIBYTE = 1024 * 1024
OLDEST_XIDS = 5
"""Of each kind, as in transactions.sql."""
SLOT_PIDS = 90_000
POLICY = TerminationPolicy(
    users=("billing",),
    applications=("importer",),
    databases=("postgres", "shop"),
    idle_in_transaction_for=20.0,
    at_most_per_hour=3,
    dry_run=False,
)


@dataclass(eq=False)
class BlockedCluster(Servers):
    """Its slots and transactions are those of `model`; the fields of a plain cluster's model are not used."""

    judge: TerminationJudge = field(kw_only=True)
    statement: ActStatement = field(kw_only=True)
    model: Primary = field(init=False)
    slots: dict[str, ModelSlot] = field(default_factory=dict)
    creations: dict[str, ModelCreation] = field(default_factory=dict)
    policy: TerminationPolicy = POLICY
    kind: str = ""
    """Of its incident."""
    act_waits: Callable[[], object] | None = None
    """Called when an act begins to wait for a lock. None: acts wait seldom, and nothing is called."""

    def __post_init__(self) -> None:
        self.major = self.chance.choice((14, 18, 18))
        self.model = self._new_primary(next_xid=self.chance.choice((1000, 2**32 - 200)), position=10_000_000)

    def _new_primary(self, *, next_xid: int, position: int) -> Primary:
        rate = self.chance.choice((0.6, 1.0, 3.0, 20.0)) * MEBIBYTE
        seed = random.Random(self.chance.random())
        return Primary(self.clock(), seed, rate=rate, next_xid=next_xid, position=position)

    def settle(self) -> None:
        self.model.settle(self.clock())

    def add_slot(self, name: str, consumer: Consumer, *, failover: bool = False) -> ModelSlot:
        self.slots[name] = slot = ModelSlot(name, self.model, consumer, failover=failover)
        slot.start()
        return slot

    def create_slot(self, name: str, node: str, **how: Any) -> ModelCreation:
        pid = self.chance.randint(50_000, 59_999)
        on_primary = node == self.primary
        self.creations[name] = creation = ModelCreation(name, self.model, node, on_primary, pid, self.clock(), **how)
        creation.start()
        return creation

    def fail_over(self) -> None:
        """Lose the primary and its sessions; the standby takes over, without the rows of the unlogged table."""
        lost, self.primary = self.model, self.standby
        for transaction in list(lost.transactions):
            lost.end(transaction)
        lost.stopped = True
        # What was not replicated is lost: the new primary assigns some of the same xids and pids again.
        self.model = self._new_primary(next_xid=lost.next_xid - 3, position=lost.position - 1000)
        for creation in self.creations.values():
            creation.dropped = True
        kept = {name: slot for name, slot in self.slots.items() if slot.failover}
        self.slots = {}
        for name, slot in kept.items():
            self.slots[name] = copy = ModelSlot(name, self.model, slot.consumer, failover=True)
            copy.restart, copy.confirmed, copy.sent = slot.restart, slot.confirmed, slot.confirmed
            copy.began = self.clock()
            copy.attach()

    def call(self) -> tuple[int, int]:
        """Force a record, as the other remedy does."""
        self.settle()
        record = self.model.log_record()
        return record.lsn, record.end

    # The act.

    def answer(self, node: str, row: type[Any], parameters: Sequence[str]) -> list[Any] | None:
        """Return the rows of the remedy's other statements; None: it is not one of them."""
        model = self.model
        if row is TerminatorFacts:
            recovery = node != self.primary
            return [TerminatorFacts(recovery, "pgslot_ender", "postgres", True, True, None, model.clock)]
        if row is Position:
            return [Position(model.position)]
        if row is ForcedRecords:
            assert self.major >= 16
            return [ForcedRecords(model.log_record().end, model.log_record().end)]
        if row is Checkpoint:
            return [Checkpoint(*model.checkpoint)]
        if row.__name__ == "_MayForce":
            return [row(self.major >= 16)]
        if row.__name__ == "_Lock":
            # No other healer acts in the model.
            return [row(True, None, None)]
        if row.__name__ == "_Trace":
            pid, xid, backend_start = parameters
            recorded = any((str(note["pid"]), note["xid"]) == (pid, xid) for note in model.audit_rows)
            sessions = {(str(entry.pid), f"{entry.backend_start_stamp:.6f}") for entry in model.transactions}
            return [row(recorded, (pid, backend_start) in sessions)]
        return None

    def run_act(self, sql: str, parameters: tuple[str, ...]) -> TerminationRow:
        """Run the statement now, and tell the judge what it did."""
        self.settle()
        row = TerminationRow(**self.statement.run(sql, parameters, self._views(), self.model.audit_rows))
        if row.ended:
            [victim] = [transaction for transaction in self.model.transactions if transaction.pid == row.pid]
            slot_name = parameters[12]
            self.judge.session_ended(self, victim, slot_name)
            self.model.end(victim, by_healer=True)
        return row

    def _views(self) -> dict[str, Any]:
        model, sessions = self.model, [entry for entry in self.model.transactions if entry.pid is not None]
        activity = [
            {
                "pid": session.pid,
                "usesysid": session.owner.oid,
                "usename": session.owner.usename,
                "application_name": session.owner.application_name,
                "datname": session.owner.datname,
                "backend_type": session.owner.backend_type,
                "state": session.state,
                "backend_xid": _text(session.xid),
                "backend_start": _stamp(session.backend_start_stamp),
                "xact_start": _stamp(session.xact_start_stamp),
                "query_start": _stamp(session.state_change_stamp),
                "state_change": _stamp(session.state_change_stamp),
            }
            for session in sessions
        ]
        activity += [
            {"pid": pid, "usesysid": 10_000, "usename": "cdc", "application_name": "consumer", "backend_type": kind}
            for pid, kind in self._slot_sessions()
        ]
        owners = {session.owner for session in sessions}
        return {
            "clock": _stamp(model.clock),
            "next_xid": str(model.next_xid % 2**32),
            "pg_stat_activity": activity,
            "pg_roles": [
                *({"oid": owner.oid, "rolname": owner.usename, "rolsuper": owner.superuser} for owner in owners),
                {"oid": 10_000, "rolname": "cdc", "rolsuper": False},
                {"oid": 10_001, "rolname": "pgslot_ender", "rolsuper": False},
            ],
            "pg_replication_slots": self._slots_as_rows(),
            "pg_stat_get_wal_senders": [
                {"pid": SLOT_PIDS + i, "sent_lsn": _lsn(slot.sent)}
                for i, slot in enumerate(self.slots.values())
                if slot.active
            ],
            "pg_locks": self._locks(),
            "pg_prepared_xacts": [
                {
                    "transaction": _text(entry.xid),
                    "gid": entry.gid,
                    "prepared": _stamp(entry.state_change_stamp),
                    "owner": entry.owner.usename,
                    "database": entry.owner.datname,
                }
                for entry in model.transactions
                if entry.pid is None
            ],
        }

    def _locks(self) -> list[dict[str, Any]]:
        """Return the lock of every open xid, also of subtransactions, and those that creations wait for."""
        held: list[dict[str, Any]] = [
            {
                "pid": entry.pid,
                "locktype": "transactionid",
                "transactionid": _text(xid),
                "granted": True,
                "mode": "ExclusiveLock",
            }
            for entry in self.model.open_with_xid
            for xid in (entry.xid, *entry.subxids)
        ]
        awaited = [
            {
                "pid": creation.pid,
                "locktype": "transactionid",
                "transactionid": _text(creation.lock_holder.xid),
                "granted": False,
                "mode": "ShareLock",
            }
            for creation in self.creations.values()
            if creation.waits and creation.lock_holder is not None
        ]
        return held + awaited

    def _slot_sessions(self) -> list[tuple[int, str]]:
        consumers = [(SLOT_PIDS + i, "walsender") for i, slot in enumerate(self.slots.values()) if slot.active]
        creators = [
            (creation.pid, "walsender")
            for creation in self.creations.values()
            if creation.waits and creation.node == self.primary
        ]
        return consumers + creators

    def _slots_as_rows(self) -> list[dict[str, Any]]:
        existing = [
            {
                "slot_name": slot.name,
                "slot_type": "logical",
                "active": slot.active,
                "active_pid": SLOT_PIDS + i if slot.active else None,
                "restart_lsn": _lsn(slot.restart),
                "confirmed_flush_lsn": _lsn(slot.confirmed),
                "wal_status": "extended",
            }
            for i, slot in enumerate(self.slots.values())
        ]
        created = [
            {
                "slot_name": creation.name,
                "slot_type": "logical",
                "active": creation.waits,
                "active_pid": creation.pid if creation.waits else None,
                "restart_lsn": _lsn(10_000_000),
                "confirmed_flush_lsn": None if creation.confirmed is None else _lsn(creation.confirmed),
                "wal_status": "reserved",
            }
            for creation in self.creations.values()
            if not creation.dropped and creation.node == self.primary
        ]
        return existing + created

    # The rows of a snapshot.

    def rows(self, node: str, row: type[Any]) -> list[Any]:
        makers: dict[type[Any], Callable[[str], list[Any]]] = {
            NodeFacts: self._node_facts,
            Slot: self._slot_rows,
            SlotCreation: self._creation_waits,
            TransactionRow: self._transaction_rows,
            Standby: self._standby_rows,
            Identity: lambda _node: [Identity(self.name)],
            WalSender: lambda _node: [],
            ServiceSigns: lambda _node: [],
        }
        return makers[row](node)

    def _node_facts(self, node: str) -> list[NodeFacts]:
        recovery = node != self.primary
        return [
            replace(
                FACTS,
                in_recovery=recovery,
                wal_written_bytes=self._replayed_position() if recovery else self.model.position,
                next_xid=None if recovery else self.model.next_xid % 2**32,
                version=f"{self.major}.6",
            )
        ]

    def _replayed_position(self) -> int:
        replayed = [creation.replayed for creation in self.creations.values() if not creation.on_primary]
        return min(replayed, default=self.model.position)

    def _standby_rows(self, node: str) -> list[Standby]:
        lag = self.model.position - self._replayed_position()
        return [] if node == self.primary else [replace(STANDBY, replay_lag_bytes=lag)]

    def _slot_rows(self, node: str) -> list[Slot]:
        here = self.model.position
        existing = [
            SLOT._replace(
                slot_name=slot.name,
                active=slot.active,
                failover=slot.failover,
                restart_position=slot.restart,
                confirmed_position=slot.confirmed,
                sent_position=slot.sent if slot.active else None,
                received_position=slot.sent if slot.active else None,
                reply_time=None,
                retained_wal_bytes=here - slot.restart,
                unconfirmed_wal_bytes=max(0, here - slot.confirmed),
                pinned_wal_bytes=slot.confirmed - slot.restart,
            )
            for slot in self.slots.values()
            if node == self.primary
        ]
        created = [
            SLOT._replace(
                slot_name=creation.name,
                active=creation.waits,
                restart_position=10_000_000,
                confirmed_position=creation.confirmed,
                sent_position=None,
                in_creation=creation.waits,
                retained_wal_bytes=0,
                unconfirmed_wal_bytes=0,
                pinned_wal_bytes=0,
            )
            for creation in self.creations.values()
            if creation.node == node and not creation.dropped
        ]
        return existing + created

    def _creation_waits(self, node: str) -> list[SlotCreation]:
        rows = []
        for creation in self.creations.values():
            if creation.node != node or not creation.waits:
                continue
            wait: dict[str, Any] = {}
            if creation.on_primary and creation.lock_holder is not None:
                holder = creation.lock_holder
                wait = {"wait_event_type": "Lock", "wait_event": "transactionid", "blocking_pids": [holder.pid or 0]}
            elif not creation.on_primary and not creation.polls():
                wait = {"wait_event_type": "Client", "wait_event": "WalSenderWaitForWal"}
            waited = self.clock() - creation.began
            rows.append(replace(CREATION, slot_name=creation.name, pid=creation.pid, wait_seconds=waited, **wait))
        return rows

    def _transaction_rows(self, node: str) -> list[TransactionRow]:
        """Return what transactions.sql selects: of each kind the one that started first, and the oldest xids."""
        if node != self.primary:
            return []
        with_xid = [entry for entry in self.model.open_with_xid if entry.pid is not None]
        idle = [entry for entry in self.model.transactions if entry.pid is not None and entry.idle_since is not None]
        prepared = [entry for entry in self.model.open_with_xid if entry.pid is None]
        rows = []
        for kind, entries in (("xid", with_xid), ("idle_in_transaction", idle), ("prepared", prepared)):
            by_start = sorted(entries, key=lambda entry: (entry.xact_start_stamp, entry.pid or 0))
            by_xid = sorted(entries, key=self._xid_age, reverse=True) if kind != "idle_in_transaction" else []
            for entry in entries:
                rank = by_xid.index(entry) if by_xid else None
                if entry is by_start[0] or (rank is not None and rank < OLDEST_XIDS):
                    rows.append(self._transaction_row(kind, entry, len(entries), rank, oldest=entry is by_start[0]))
        return rows

    def _transaction_row(
        self, kind: str, entry: Transaction, count: int, rank: int | None, *, oldest: bool
    ) -> TransactionRow:
        xid = entry.xid if kind != "idle_in_transaction" else None
        if xid is not None and entry.shown_since is None:
            entry.shown_since = self.clock()
        return replace(
            TRANSACTION,
            kind=kind,
            backend_type="prepared" if entry.pid is None else entry.owner.backend_type,
            pid=entry.pid,
            datname=entry.owner.datname,
            usename=entry.owner.usename,
            application_name=entry.gid if entry.pid is None else entry.owner.application_name,
            state="prepared" if entry.pid is None else entry.state,
            age_seconds=self.model.clock - entry.xact_start_stamp,
            xid=xid,
            xid_age=None if xid is None else self._xid_age(entry),
            open_count=count,
            oldest_start=oldest,
            oldest_xid=rank == 0,
        )

    def _xid_age(self, entry: Transaction) -> int:
        return (self.model.next_xid - (entry.xid or 0)) % 2**32


def _stamp(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat()


def _text(xid: int | None) -> str | None:
    return None if xid is None else str(xid)


def _lsn(position: int) -> str:
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"

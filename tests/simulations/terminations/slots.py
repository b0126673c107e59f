"""Slots of the model: existing ones with decoder and consumer, and those in creation, on the primary or a standby."""

from dataclasses import dataclass, field

from tests.simulations.terminations.primary import Primary
from tests.simulations.terminations.transactions import Record, Transaction

DECODE_SECONDS = 0.15
"""From a record's being logged to its being decoded: it is flushed within 0.2 s."""


@dataclass(frozen=True)
class Move:
    """restart_lsn moved; `because_of`: the record whose confirmation allowed it."""

    at: float
    before: int
    because_of: Record


@dataclass(frozen=True)
class Consumer:
    """How a slot's consumer confirms: every `interval` seconds, what it had `lag` seconds before."""

    interval: float = 1.0
    lag: float = 0.0


@dataclass(eq=False)
class ModelSlot:
    """An existing logical slot (logical.c: LogicalIncreaseRestartDecodingForSlot, LogicalConfirmReceivedLocation)."""

    name: str
    primary: Primary
    consumer: Consumer
    active: bool = True
    confirms: bool = True
    failover: bool = False
    restart: int = 0
    confirmed: int = 0
    sent: int = 0
    candidate: tuple[Record, int] | None = None
    """The record that must be confirmed, and the restart_lsn that this allows. One at a time."""
    moves: list[Move] = field(default_factory=list)
    began: float = 0.0

    def start(self) -> None:
        """Begin at the primary's last record, everything confirmed."""
        last = self.primary.records[-1]
        self.restart, self.confirmed, self.sent = last.lsn, last.end, last.end
        self.began = self.primary.now
        self.attach()

    def attach(self) -> None:
        """Decode and confirm from now on."""
        self.primary.on_record.append(self._logged)
        self._confirm_later()

    def disconnect(self) -> None:
        self.active = False

    def reconnect(self) -> None:
        """The consumer comes back: decoding begins again at restart_lsn."""
        self.active = True
        for record in self.primary.records:
            if record.lsn > self.restart and record.at <= self.primary.now - DECODE_SECONDS:
                self._decode(record)
        self.sent = self.primary.position

    def holders(self) -> list[Transaction]:
        """
        Return the open transactions that hold the slot: while one of them is open, restart_lsn cannot pass.

        Their first WAL follows the record at restart_lsn and precedes the next one.
        """
        return [
            transaction
            for transaction in self.primary.open_with_xid
            if transaction.first_lsn is not None
            and self.primary.restart_decoding_lsn(transaction.first_lsn) <= self.restart
        ]

    def next_record(self) -> Record | None:
        """Return the first record after restart_lsn: what holds the slot had its xid before that."""
        return next((record for record in self.primary.records if record.lsn > self.restart), None)

    def _logged(self, record: Record) -> None:
        if self.active:
            self.primary.at(self.primary.now + DECODE_SECONDS, lambda: self._decode_while_active(record))

    def _decode_while_active(self, record: Record) -> None:
        if self.active:
            self._decode(record)

    def _confirm_while_active(self, position: int) -> None:
        if self.active:
            self._confirm(position)

    def _decode(self, record: Record) -> None:
        self.sent = max(self.sent, record.end)
        if record.offered <= self.restart:
            return
        if record.end <= self.confirmed:
            self.candidate = (record, record.offered)
            self._confirm(self.confirmed)
        elif self.candidate is None:
            self.candidate = (record, record.offered)

    def _confirm_later(self) -> None:
        """Send what is decoded at the next interval, which is confirmed after the consumer's lag."""

        def confirm() -> None:
            if self.active:
                position = self.primary.position
                self.primary.at(self.primary.now + DECODE_SECONDS + 0.01, lambda: self._sent(position))
                if self.confirms:
                    delay = DECODE_SECONDS + 0.02 + self.consumer.lag
                    self.primary.at(self.primary.now + delay, lambda: self._confirm_while_active(position))
            self._confirm_later()

        jitter = self.primary.chance.uniform(0.9, 1.1)
        self.primary.at(self.primary.now + self.consumer.interval * jitter, confirm)

    def _sent(self, position: int) -> None:
        if self.active:
            self.sent = max(self.sent, position)

    def _confirm(self, position: int) -> None:
        self.confirmed = max(self.confirmed, position)
        if self.candidate is not None and self.candidate[0].end <= self.confirmed:
            record, offered = self.candidate
            self.moves.append(Move(self.primary.now, self.restart, record))
            self.restart, self.candidate = offered, None


@dataclass(eq=False)
class ModelCreation:
    """
    A slot in creation (snapbuild.c: SnapBuildFindSnapshot, SnapBuildWaitSnapshot).

    On the primary it logs a record itself whenever its wait is over. On a standby it waits for the next one, and for
    the ends of transactions to be replayed.
    """

    name: str
    primary: Primary
    node: str
    on_primary: bool
    pid: int
    began: float
    horizon: int = 0
    """The next xid when it began: it waits for all that are older."""
    awaited: tuple[Transaction, ...] | None = None
    """The transactions that were open at the last record; None before the first one."""
    phase: int = 0
    made: float | None = None
    confirmed: int | None = None
    dropped: bool = False
    replay_delay: float = 0.05
    replay_stopped: float | None = None
    """Since when the standby's startup process hangs, which only the position shows; None: it does not."""
    missed: list[Record] = field(default_factory=list)
    waited_for: list[tuple[Transaction, float]] = field(default_factory=list)
    """What it has waited for, and since when."""

    @property
    def waits(self) -> bool:
        return self.made is None and not self.dropped

    def start(self) -> None:
        self.horizon = self.primary.next_xid
        if self.on_primary:
            self._read(self.primary.log_record())
        else:
            self.primary.on_record.append(self._arrives)
        self._poll()

    def stop_replay(self) -> None:
        self.replay_stopped = self.primary.now

    def resume_replay(self) -> None:
        self.replay_stopped = None
        missed, self.missed = self.missed, []
        for record in missed:
            self._read(record)

    @property
    def replayed(self) -> int:
        """Up to where the standby has replayed."""
        until = self.primary.now if self.replay_stopped is None else self.replay_stopped
        return self.primary.position_at(until - self.replay_delay)

    def holders(self) -> list[Transaction]:
        """Return the open transactions without whose end the creation cannot go on."""
        if not self.waits:
            return []
        if self.awaited is None:
            return [
                transaction
                for transaction in self.primary.open_with_xid
                if transaction.xid is not None and (self.horizon - transaction.xid) % 2**32 < 2**31
            ]
        return [transaction for transaction in self.awaited if transaction.open]

    def polls(self) -> bool:
        """Whether it waits for a transaction: on a standby until it has replayed the transaction's end."""
        return self.awaited is not None and any(not self._over(transaction) for transaction in self.awaited)

    @property
    def lock_holder(self) -> Transaction | None:
        """The transaction that a creation on the primary waits for at the moment."""
        return next(iter(self.holders()), None) if self.on_primary else None

    def _over(self, transaction: Transaction) -> bool:
        if self.on_primary:
            return not transaction.open
        ended = transaction.ended
        return ended is not None and self.replay_stopped is None and self.primary.now >= ended + self.replay_delay

    def _arrives(self, record: Record) -> None:
        self.primary.at(self.primary.now + self.replay_delay, lambda: self._replay(record))

    def _replay(self, record: Record) -> None:
        if self.replay_stopped is not None:
            self.missed.append(record)
        else:
            self._read(record)

    def _read(self, record: Record) -> None:
        if not self.waits or self.polls():
            # A decoder that waits reads the record later; it is then too old for the next phase.
            return
        self.phase = 3 if not record.running else self.phase + 1
        self.awaited = record.open_transactions
        self.waited_for += [(transaction, self.primary.now) for transaction in self.awaited]
        if self.phase == 3:
            self.made, self.confirmed = self.primary.now, record.end

    def _poll(self) -> None:
        if not self.waits:
            return
        if self.on_primary and self.awaited is not None and not self.polls():
            self._read(self.primary.log_record())
        self.primary.at(self.primary.now + 0.1, self._poll)

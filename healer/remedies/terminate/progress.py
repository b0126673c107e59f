"""The progress of one slot's heal by ending the transaction that blocks it."""

from dataclasses import dataclass

from healer.remedies.progress import SlotProgress
from healer.remedies.terminate.blocking_transaction import BlockingTransaction, BlockKind, HolderSession


@dataclass(frozen=True, slots=True)
class TerminationTarget:
    """A blocking transaction over consecutive snapshots. Times in seconds since the episode's start."""

    blocker: BlockingTransaction
    since: float
    """When the first of these snapshots was taken."""
    session: HolderSession | None = None
    """As the primary showed it in the first check; None: not checked yet, or changed since."""
    seen_at: float = 0.0
    """When that check was made."""
    checks: int = 0
    """Checks that did not refuse it."""
    checked_position: int | None = None
    """Where the primary's WAL stood after that check, in bytes since 0/0."""
    refusal: str | None = None
    """Why the last check refused to end it; None: it did not refuse."""
    rivals: tuple[str, ...] = ()
    """The others that could be the cause, as the last check that refused it as ambiguous showed them."""
    ended: bool = False
    """We have terminated its session."""
    dry_run_match: bool = False
    """We would have terminated its session, but this is a dry run."""
    rule: str = ""
    """The rule of the configuration that allowed it."""

    @property
    def proven(self) -> bool:
        """
        Whether the snapshots prove that it blocks the slot.

        A creation on the primary waits for a lock, which the acting statement sees. A standby that has replayed what
        the primary had written when this was its oldest transaction waits for nothing that had ended by then.
        """
        match self.blocker.kind:
            case BlockKind.CREATION:
                return True
            case BlockKind.CREATION_ON_STANDBY:
                replayed, position = self.blocker.replayed, self.checked_position
                return replayed is not None and position is not None and replayed >= position
        return self.blocker.proven

    @property
    def described(self) -> str:
        """Who it is, with all others that could be the cause."""
        others = self.blocker.rivals or self.rivals
        return "; ".join((self.blocker.description, *others))


@dataclass(frozen=True, slots=True)
class TerminationProgress(SlotProgress):
    """One slot's heal so far."""

    target: TerminationTarget | None = None
    """The transaction that blocks the slot; None: none does."""
    blocked_at: int | None = None
    """restart_lsn when a transaction was first observed to block the slot, in bytes since 0/0."""
    act_in_doubt: bool = False
    """An attempt to terminate failed without an answer: it may have succeeded."""
    recreated: bool = False
    """The slot was dropped, and this is another one of the same name."""
    others_since: bool = False
    """After our act another transaction was observed to block the slot."""
    hidden_since: bool = False
    """After our act the standby did not replay: whether another transaction blocked the slot could not be seen."""

    @property
    def done(self) -> str:
        if self.target is not None and self.target.ended:
            return f"we have terminated {self.target.blocker.description}"
        return "an act of ours got no answer, and may have terminated a session" if self.act_in_doubt else ""

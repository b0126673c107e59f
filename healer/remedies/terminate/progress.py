"""The progress of one slot's heal by ending the transaction that blocks it."""

from dataclasses import dataclass

from healer.remedies.progress import SlotProgress
from healer.remedies.terminate.blocking_transaction import BlockingTransaction, HolderSession


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
    refusal: str | None = None
    """Why the last check refused to end it; None: it did not refuse."""
    ended: bool = False
    """We have terminated its session."""
    dry_run_match: bool = False
    """We would have terminated its session, but this is a dry run."""
    rule: str = ""
    """The rule of the configuration that allowed it."""


@dataclass(frozen=True, slots=True)
class TerminationProgress(SlotProgress):
    """One slot's heal so far."""

    target: TerminationTarget | None = None
    """The transaction that blocks the slot; None: none does."""
    blocked_at: int | None = None
    """restart_lsn when a transaction was first observed to block the slot, in bytes since 0/0."""
    act_in_doubt: bool = False
    """An attempt to terminate failed without an answer: it may have succeeded."""

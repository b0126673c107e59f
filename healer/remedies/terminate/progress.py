"""One slot's heal by ending the transaction that blocks it."""

from dataclasses import dataclass

from healer.remedies.progress import SlotProgress
from healer.remedies.terminate.blocker import BlockingTransaction, HolderSession


@dataclass(frozen=True, slots=True)
class TerminationTarget:
    """A blocking transaction, as snapshot after snapshot shows it. Times in seconds since the episode's start."""

    blocker: BlockingTransaction
    since: float
    """The first of the snapshots that have all shown it."""
    session: HolderSession | None = None
    """As the primary showed it when it was first asked; None before that, and after it has changed."""
    seen_at: float = 0.0
    """When that was."""
    refusal: str | None = None
    """Why it was not ended when the primary was last asked."""
    ended: bool = False
    """We told its session to end."""
    dry_run_match: bool = False
    """We would have told it to end, but for the dry run."""
    rule: str = ""
    """The rule of the configuration that allowed it."""


@dataclass(frozen=True, slots=True)
class TerminationProgress(SlotProgress):
    """One slot so far."""

    target: TerminationTarget | None = None
    """The transaction, and how far its end has come; None: no transaction blocks the slot."""
    blocked_at: int | None = None
    """restart_lsn when a transaction was first seen to block the slot, in bytes since 0/0."""
    act_in_doubt: bool = False
    """An act was tried, and no answer came that would say whether it was done."""

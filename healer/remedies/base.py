"""
What a remedy is to the loop, which knows none of them by name: where it acts, by which rules, and how it tells of it.

Each is put together in healer/remedies/registry.py. Rules are pure: what looks and attempts make of a slot's heal.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from healer.remedies.attempt import Call, CallResult, Capability, Said
from healer.remedies.connection import Primary
from healer.remedies.force_snapshot.schedule import Attempt, LookAgain, Progress
from healer.remedies.progress import Track
from healer.remedies.slot_state import SlotState
from pgslot.config.model import Cluster, HealerConfig, HealerSettings


@dataclass(frozen=True, slots=True)
class Rules:
    """What is made of a slot's heal by each look and attempt, when it is over, and what comes next."""

    advance: Callable[[Track, SlotState, float], Track]
    after_attempt: Callable[[Track, Call, float], Track]
    opens_again: Callable[[Track, SlotState], bool]
    settle: Callable[[Track, Progress, HealerSettings], Track]
    next_step: Callable[[Collection[Track], Progress, HealerSettings], Attempt | LookAgain]
    wants: Callable[[Track], bool]
    """An attempt would be of use for this slot, now or as soon as the rules' pace allows."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """Calls for each cluster within an hour, and how many of them are there right after a start."""

    per_hour: int
    at_start: int


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing that can be done to a cluster."""

    name: str
    """The value of the alerts' label `heal`, and of the metrics' label `remedy`."""
    target: Callable[[Cluster], HealerConfig | None]
    """As whom it acts for the cluster; None: it is not set up there."""
    check: Callable[[HealerConfig], Awaitable[Capability]]
    """Could it act, if it had to? Nothing is written for that."""
    primary: Callable[[HealerConfig, float], Primary]
    """The connection of an episode, and after how many seconds of idling the server ends it."""
    act: Callable[[Primary, Attempt], Awaitable[Call]]
    rules: Rules
    allowance: Callable[[HealerConfig, HealerSettings], Allowance]
    spending: frozenset[CallResult]
    """What counts against the cluster's hour."""
    say: Callable[[Call], Said]
    guards: tuple[str, ...]
    """What can refuse an attempt; empty of a remedy that does no harm."""
    plan: str
    """What it does, in words, for whoever asks beforehand."""
    not_now: str
    """Why it does nothing for a slot that it cannot help at this moment."""

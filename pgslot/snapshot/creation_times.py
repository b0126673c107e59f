"""
When slot creations began, as far as the snapshots of a node show it.

The server shows when a session's statement began. That may be long before the creation: a DO block, or several
creations in one statement. But a creation began after the last snapshot that did not show it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pgslot.snapshot.rows import SlotCreation


@dataclass(frozen=True, slots=True)
class CreationTimes:
    """What the snapshots of a node showed so far. Times are seconds of a monotonic clock."""

    at: float | None = None
    """When the last snapshot of creations began; None: there was none."""
    not_before: Mapping[tuple[str, int], float | None] = field(default_factory=dict)
    """After which time each creation of that snapshot began, by slot name and pid. None: the first one showed it."""


def bound_waits(
    times: CreationTimes, creations: Sequence[SlotCreation], began: float, now: float
) -> tuple[CreationTimes, tuple[SlotCreation, ...]]:
    """
    Return what is known after one more snapshot, and its creations with waits that are no longer than they can be.

    The snapshot began at `began` and ended at `now`.
    """
    keys = [(creation.slot_name, creation.pid) for creation in creations]
    not_before = {key: times.not_before.get(key, times.at) for key in keys}
    bounded = tuple(_bounded(creation, not_before[key], now) for key, creation in zip(keys, creations, strict=True))
    return CreationTimes(began, not_before), bounded


def _bounded(creation: SlotCreation, began: float | None, now: float) -> SlotCreation:
    if began is None or creation.wait_seconds is None or creation.wait_seconds <= now - began:
        return creation
    return replace(creation, wait_seconds=now - began)

"""
Watches slots whose heal has ended well for as long as their alerts fire on.

A consumer that tries again drops its slot and creates another under the same name. The alert fires on over that (its
rule has `keep_firing_for`), so that nothing new is sent or listed about the new creation.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from healer.episodes import deadlines
from healer.episodes.partial_snapshot import PartialCollector
from healer.remedies.base import AnyRemedy
from healer.remedies.progress import SlotProgress
from healer.remedies.slot_state import SlotKey, SlotState, evaluate
from pgslot.config.model import Cluster


@dataclass(frozen=True, slots=True)
class HealedSlot:
    """A slot whose heal has ended well while an alert about it fires."""

    progress: SlotProgress
    alerts: Mapping[str, str]
    """`alertname` of the alerts about it, by fingerprint."""
    until: float = 0.0
    """When it is no longer watched, on the monotonic clock."""


class WatchOwner(Protocol):
    """What the watch asks of the episode manager, and reports to it."""

    def cluster(self) -> Cluster | None:
        """Return the cluster as it is configured now; None: it is not, or is not healed."""
        ...

    def fires(self, fingerprint: str) -> bool:
        """Return whether the alert still fires, as far as is known, and is in no episode."""
        ...

    def heal_again(self, slot: SlotKey, fingerprint: str, alertname: str) -> None:
        """Called when the slot needs another heal."""
        ...


class HealedSlots:
    """The healed slots of one cluster and remedy."""

    def __init__(self, remedy: AnyRemedy, owner: WatchOwner) -> None:
        self._remedy = remedy
        self._owner = owner
        self._slots: dict[SlotKey, HealedSlot] = {}

    def add(self, slots: Mapping[SlotKey, HealedSlot]) -> None:
        """Watch these slots from now on, for `deadlines.WATCH_SECONDS` at most."""
        until = time.monotonic() + deadlines.WATCH_SECONDS
        self._slots |= {key: replace(slot, until=until) for key, slot in slots.items()}

    async def run(self) -> None:
        """Watch until no alert about the slots fires any more; connections stay open for as long."""
        while self._discard_ended() and (cluster := self._owner.cluster()) is not None:
            collector = PartialCollector(cluster)
            try:
                await self._watch(collector)
            finally:
                # Slots may be added until it is closed.
                await collector.close()

    async def _watch(self, collector: PartialCollector) -> None:
        while True:
            await asyncio.sleep(deadlines.WATCH_INTERVAL)
            if not self._discard_ended() or (cluster := self._owner.cluster()) is None:
                return
            collector.follow(cluster)
            slots = dict(self._slots)
            snapshot = await collector.collect({key.node for key in slots})
            self._apply(slots, evaluate(snapshot, slots))

    def _discard_ended(self) -> bool:
        """Forget slots about which no alert fires, or that were watched for long enough; return whether any is left."""
        now = time.monotonic()
        self._slots = {
            key: slot
            for key, slot in self._slots.items()
            if now < slot.until and any(map(self._owner.fires, slot.alerts))
        }
        return bool(self._slots)

    def _apply(self, slots: Mapping[SlotKey, HealedSlot], states: Mapping[SlotKey, SlotState]) -> None:
        for key, slot in slots.items():
            # Another heal of it may have ended while the snapshot was taken, or its alerts.
            if self._slots.get(key) is slot and needs_heal(self._remedy, slot.progress, states[key]):
                del self._slots[key]
                for fingerprint, name in slot.alerts.items():
                    if self._owner.fires(fingerprint):
                        self._owner.heal_again(key, fingerprint, name)


def needs_heal(remedy: AnyRemedy, progress: SlotProgress, state: SlotState) -> bool:
    """Return whether a slot that was well needs the remedy again, and an attempt would help now."""
    first = remedy.apply_observation(remedy.begin(), state, 0.0)
    return remedy.should_reopen(progress, state) and remedy.wants_attempt(first)

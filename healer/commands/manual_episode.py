"""An episode that a person runs by hand: its exit codes, and the lines that it prints as it goes."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum

from healer.episodes.budget import CallBudget
from healer.episodes.journal import describe_failures, describe_state
from healer.episodes.loop import Episode
from healer.episodes.report import Report, TimelineEntry
from healer.remedies.attempt import Capability, Unavailable
from healer.remedies.force_snapshot.need import undecided_slots
from healer.remedies.progress import WELL, Outcome
from healer.remedies.registry import FORCE_SNAPSHOT
from healer.remedies.slot_state import SlotCondition, SlotKey, SlotState
from pgslot.cli.logging import printable
from pgslot.config.model import Cluster, Config
from pgslot.snapshot.model import ClusterSnapshot

MAX_GIVE_UP_AFTER = 120.0
"""Seconds, without --give-up-after: a person is waiting, and finding out what keeps a slot's WAL may take a minute."""
QUIET_SECONDS = 1.5
"""After this time without a line, a line says what the episode waits for."""
PROGRESS_INTERVAL = 10.0
"""Seconds from such a line to the next."""
MAX_NAMES_SHOWN = 3
"""Slots that such a line names, per reason."""
NOTHING_TO_HEAL = (
    "nothing to heal: no slot creation waits, no slot is stalled, and no copy of a failover slot is temporary"
)


class Exit(IntEnum):
    """Exit codes."""

    HEALED = 0
    """No slot waits any more: healed, resolved by itself, or there was nothing to heal. Every node was read."""
    NOT_HEALED = 1
    """A slot still waits; after --dry-run as well."""
    UNAVAILABLE = 2
    """
    The remedy's function cannot be called there, the healer is switched off, or a node could not be read, so that a
    slot may wait there. Bad input has the same code.
    """


async def run_episode(cluster: Cluster, config: Config, slots: list[SlotKey], limit: float, output: "Output") -> Report:
    settings = replace(config.healer, give_up_after=limit)
    budget = CallBudget(settings.calls_per_hour, time.monotonic(), at_start=settings.calls_per_hour)
    episode = Episode(FORCE_SNAPSHOT, cluster, settings, budget)
    episode.report.listener = output.entry
    for slot in slots:
        episode.join(f"{slot.node}/{slot.slot_name}", slot)
    run = asyncio.create_task(episode.run())
    try:
        while not (await asyncio.wait({run}, timeout=output.seconds_to_progress()))[0]:
            if output.seconds_to_progress() <= 0:
                output.progress(time.time() - episode.report.started_at, episode)
    finally:
        if not run.done():
            run.cancel()
            await asyncio.wait({run})
    return run.result()


def exit_code(report: Report | None, unread: Mapping[str, str]) -> Exit:
    """Return the exit code. `report` None: no slot needed help. `unread`: nodes on which a slot may wait unseen."""
    if report is None or report.outcome in WELL:
        return Exit.UNAVAILABLE if unread else Exit.HEALED
    return Exit.UNAVAILABLE if report.outcome is Outcome.UNAVAILABLE else Exit.NOT_HEALED


def finish(
    code: Exit, report: Report | None, capability: Capability, unread: Mapping[str, str], *, as_json: bool
) -> Exit:
    if as_json:
        result = {
            "exit": int(code),
            "capability": {"reason": capability.reason, "remedy": capability.advice},
            "unread_nodes": unread,
            "episode": report.as_json() if report else None,
        }
        json.dump(result, sys.stdout, indent=2)
        print()
    return code


def unread_nodes(snapshot: ClusterSnapshot) -> dict[str, str]:
    """Return, by node on which a slot may wait unseen, why: a failed query, or a primary that is not known."""
    unread = {
        node.node: describe_failures(node) for node in snapshot.nodes if node.slots is None or node.creations is None
    }
    for slot in undecided_slots(snapshot):
        unread.setdefault(slot.node, f"slot {slot.slot_name} cannot be judged without the primary's slots")
    return unread


def describe_capability(capability: Capability) -> str:
    if capability.reason is None:
        return "can heal"
    if capability.reason is Unavailable.DISABLED:
        return f"healing is switched off: {capability.advice}"
    return f"cannot heal: {capability.reason}. {capability.advice}"


def progress_text(states: Mapping[SlotKey, SlotState], calls: int) -> str:
    """Return one line about the slots that are still open, grouped by what they wait for."""
    groups: dict[str, list[str]] = {}
    for key, state in states.items():
        groups.setdefault(" ".join(describe_state(state)), []).append(key.slot_name)
    slots = "; ".join(f"{names_of(names)} {words}" for words, names in groups.items())
    inconclusive = any(state.condition is SlotCondition.INCONCLUSIVE for state in states.values())
    hint = " (whether restart_lsn moves shows within a minute)" if inconclusive else ""
    return f"still working: {slots}{hint}; {calls} call{'' if calls == 1 else 's'} so far"


def names_of(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return ", ".join(names[:MAX_NAMES_SHOWN]) + more


class Output:
    """Prints lines for people, and knows when nothing has been printed for too long. `silent`: prints nothing."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._progress_due = time.monotonic() + QUIET_SECONDS

    def line(self, text: str) -> None:
        self._progress_due = time.monotonic() + QUIET_SECONDS
        if not self._silent:
            # Names come from servers and clients: a terminal would act on control characters in them.
            print(printable(text), flush=True)

    def entry(self, entry: TimelineEntry) -> None:
        self.line(f"{entry.seconds:7.2f} s  {entry.text}")

    def progress(self, seconds: float, episode: Episode) -> None:
        self.entry(TimelineEntry(seconds, progress_text(episode.open_slots, episode.report.calls)))
        self._progress_due = time.monotonic() + PROGRESS_INTERVAL

    def seconds_to_progress(self) -> float:
        return max(0.0, self._progress_due - time.monotonic())

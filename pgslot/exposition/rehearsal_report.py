"""A rehearsal as a table and sentences for people, and as JSON for scripts."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from pgslot.cli.amounts import size
from pgslot.cli.logging import printable
from pgslot.diagnosis.rehearsal_model import Outcome, Phase, Problem, ProblemKind, Rehearsal, SlotOutcome, SlotReason

_OUTCOMES = {
    Outcome.GOES_ON: "goes on",
    Outcome.OTHER_SLOT: "OTHER SLOT",
    Outcome.ENDS: "ENDS",
    Outcome.NOT_NEEDED: "not needed",
    Outcome.UNKNOWN: "unknown",
}

_COUNTED = {
    Outcome.GOES_ON: ("goes on", "go on"),
    Outcome.OTHER_SLOT: ("meets another slot", "meet another slot"),
    Outcome.ENDS: ("ends", "end"),
}
"""One slot, and several."""

REASONS = {
    SlotReason.COPY: "its copy is kept in step",
    SlotReason.STALE: "its copy is no longer kept in step: see the runbook of PgSlotNotFailoverReady",
    SlotReason.OWN: "it is the standby's own",
    SlotReason.SAME_NAME: "a slot of this name is there",
    SlotReason.PATRONI: "Patroni keeps or creates it there",
    SlotReason.LEFT_BEHIND: "a copy without an original: it holds WAL and nothing uses it; drop it after the promotion",
    SlotReason.STREAMS_TO_TARGET: "the new primary streamed through it",
    SlotReason.NAME_TAKEN: "the standby has another slot of this name",
    SlotReason.NO_FAILOVER: "it was created without failover, so that standbys keep no copy",
    SlotReason.BEFORE_17: "before PostgreSQL 17 standbys keep no copies of slots",
    SlotReason.NOT_SYNCED: "it is not copied yet",
    SlotReason.NOT_PERSISTED: "its copy is temporary, and is dropped at the promotion",
    SlotReason.SYNC_OFF: "there is no copy: sync_replication_slots is off",
    SlotReason.WORKER_DOWN: "there is no copy: no slot synchronization worker runs",
    SlotReason.NO_COPY: "there is no copy",
    SlotReason.COPY_INVALIDATED: "its copy is invalidated",
    SlotReason.INVALIDATED: "it is invalidated already",
    SlotReason.PHYSICAL: "physical slots are not copied",
    SlotReason.PATRONI_RECREATES: "Patroni creates a new slot of this name, which begins at the switchover",
    SlotReason.PATRONI_DROPS: "Patroni drops it when it next reads the slots: it is in neither slots nor ignore_slots",
    SlotReason.TEMPORARY: "temporary, it lives as long as its session",
    SlotReason.IN_CREATION: "its creation has not finished",
    SlotReason.NOT_READ: "the standby's slots could not be read",
}
"""A clause for each reason."""

_HEADINGS = {
    Phase.BEFORE: "In the way",
    Phase.AFTER: "Afterwards",
    Phase.TASK: "To do afterwards",
}


MAX_NAMES_SHOWN = 10
"""In a sentence; a list of 1,000 slots helps nobody."""

_SENTENCES = {
    ProblemKind.NOT_STREAMING: (
        "{node} does not stream{lacks}: what it has not received is lost. Let it catch up first."
    ),
    ProblemKind.NO_FREE_SLOT: (
        "{node} has {available} free slots and needs {needed}, for copies and for the standbys that will follow it."
        " Raise max_replication_slots on {node}, and restart it."
    ),
    ProblemKind.FEW_WAL_SENDERS: (
        "{node} allows {available} walsenders and needs {needed}: the last clients to connect are refused."
        " Raise max_wal_senders on {node}, and restart it."
    ),
    ProblemKind.WAL_LEVEL: (
        "{node} has wal_level = {names}: no logical slot can exist there. Set wal_level = logical on {node}, and"
        " restart it."
    ),
    ProblemKind.NAME_TAKEN: (
        "{node} has slots of its own with the names {names}: the synchronisation stops at them, for all slots."
        " If nothing uses them, drop them on {node}: {drop}."
    ),
    ProblemKind.STANDBY_SLOT_MISSING: (
        "synchronized_standby_slots of {node} names {names}, which {node} does not have: every consumer of a failover"
        " slot waits there, without an error. Correct the setting on {node} and reload it, or create the slots for"
        " standbys that will use them: {create}."
    ),
    ProblemKind.STANDBY_SLOT_UNUSED: (
        "synchronized_standby_slots of {node} names {names}, through which no node of the configuration streams: every"
        " consumer of a failover slot waits there, without an error. Correct the setting on {node} and reload it."
    ),
    ProblemKind.NOTHING_TO_WAIT_FOR: (
        "{node} has no synchronized_standby_slots, where the old primary has {names}: consumers can get ahead of"
        " standbys, and a failover then loses what they already have. Set it once the standbys stream."
    ),
    ProblemKind.PRIMARY_SLOT_MISSING: (
        "{node} streams through {names} (primary_slot_name), which the new primary does not have: {node} cannot stream"
        " from it. On the new primary: {create}."
    ),
    ProblemKind.NO_STANDBY_SYNCS: (
        "no standby of {node} would keep copies of failover slots, and the next failover loses the slots. Missing on"
        " {listed}."
    ),
    ProblemKind.WAITS_FOR_STANDBY: (
        "consumers of failover slots wait until a standby streams from {node} through {names}"
        " (synchronized_standby_slots)."
    ),
    ProblemKind.LEFTOVER: (
        "{node} keeps its slots {names}. As a standby it synchronises no slot until they are dropped there: {drop}."
    ),
}


def sentence(problem: Problem) -> str:
    """Return what is wrong, what it costs and what to do, on one line."""
    quoted = [f"'{name}'" for name in problem.names]
    create = [f"SELECT pg_create_physical_replication_slot({name}, true)" for name in quoted]
    drop = [f"SELECT pg_drop_replication_slot({name})" for name in quoted]
    return _SENTENCES[problem.kind].format(
        node=problem.node,
        names=shortened(problem.names, ", "),
        listed=shortened(problem.names, "; "),
        needed=problem.needed,
        available=problem.available,
        lacks="" if problem.needed is None else f", and lacks {size(problem.needed)} of WAL",
        create=shortened(create, "; "),
        drop=shortened(drop, "; "),
    )


def shortened(items: Sequence[str], separator: str) -> str:
    """Return the first items, and how many more there are: --json has all names."""
    more = len(items) - MAX_NAMES_SHOWN
    return separator.join([*items[:MAX_NAMES_SHOWN], *([f"and {more} more"] if more > 0 else [])])


def as_text(rehearsals: Sequence[Rehearsal]) -> str:
    """Return a table of slots and a list of problems for each rehearsal."""
    return "\n\n".join("\n".join(_lines(rehearsal)) for rehearsal in rehearsals)


def as_json(rehearsals: Sequence[Rehearsal]) -> str:
    """Return a list of objects, one for each rehearsal, in ASCII; docs/reference/rehearsal.md describes them."""
    return json.dumps([_object(rehearsal) for rehearsal in rehearsals], indent=2)


def summary(rehearsal: Rehearsal) -> str:
    """Return how many slots go on and how many end, on one line."""
    slots = (*rehearsal.slots, *rehearsal.target_slots)
    counts = [
        f"{count} {words[count > 1]}"
        for outcome, words in _COUNTED.items()
        if (count := sum(slot.outcome is outcome for slot in slots))
    ]
    total = "1 slot" if len(slots) == 1 else f"{len(slots)} slots"
    return f"{total}: {', '.join(counts)}" if counts else "no slots"


def _lines(rehearsal: Rehearsal) -> Iterable[str]:
    cluster, target, primary = rehearsal.cluster, rehearsal.target, rehearsal.primary
    if primary is None:
        yield printable(f"{cluster}: a switchover to {target or 'any standby'}, as of now")
    else:
        yield printable(f"{cluster}: a switchover from {primary} to {target}, as of now")
        yield from ("", f"Slots of {primary}:" if rehearsal.slots else f"{primary} shows no slots.")
        yield from _table(rehearsal.slots)
    if rehearsal.target_slots:
        yield from ("", f"Slots of {target} itself:")
        yield from _table(rehearsal.target_slots)
    for phase, heading in _HEADINGS.items():
        sentences = [sentence(problem) for problem in rehearsal.problems if problem.kind.phase is phase]
        if sentences:
            yield from ("", f"{heading}:", *(printable(f"  - {text}") for text in sentences))
    if rehearsal.unknown:
        yield from ("", "Unknown:")
        yield from (printable(f"  - {unknown.what}: this takes {unknown.needs}") for unknown in rehearsal.unknown)
    yield from ("", f"{cluster}/{target}: {verdict(rehearsal)}." if target else f"{cluster}: {verdict(rehearsal)}.")


def verdict(rehearsal: Rehearsal) -> str:
    """Return the last line's text."""
    if rehearsal.primary is None:
        return "nothing is known"
    if not rehearsal.everything_goes_on:
        return "not everything goes on"
    return "everything goes on" if rehearsal.everything_known else "what is known goes on, and something is unknown"


def _table(slots: Sequence[SlotOutcome]) -> Iterable[str]:
    if not slots:
        return
    header = ("slot", "database", "afterwards", "again", "because")
    rows = [header, *(_cells(slot) for slot in slots)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        yield "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _cells(slot: SlotOutcome) -> tuple[str, ...]:
    because = REASONS[slot.reason]
    if slot.skipped_bytes:
        because = f"{because}, which is ahead: {size(slot.skipped_bytes)} of changes never arrive"
    again = "-" if slot.repeated_bytes is None else size(slot.repeated_bytes)
    database = slot.database or slot.slot_type
    return printable(slot.slot_name), printable(database), _OUTCOMES[slot.outcome], again, because


def _object(rehearsal: Rehearsal) -> dict[str, Any]:
    return {
        "cluster": rehearsal.cluster,
        "primary": rehearsal.primary,
        "target": rehearsal.target,
        "everything_goes_on": rehearsal.everything_goes_on,
        "everything_known": rehearsal.everything_known,
        "slots": [_slot(slot) for slot in rehearsal.slots],
        "target_slots": [_slot(slot) for slot in rehearsal.target_slots],
        "problems": [
            {
                "kind": problem.kind,
                "phase": problem.kind.phase,
                "node": problem.node,
                "names": list(problem.names),
                "text": sentence(problem),
            }
            for problem in rehearsal.problems
        ],
        "unknown": [{"what": unknown.what, "needs": unknown.needs} for unknown in rehearsal.unknown],
    }


def _slot(slot: SlotOutcome) -> dict[str, Any]:
    return {
        "slot_name": slot.slot_name,
        "database": slot.database,
        "slot_type": slot.slot_type,
        "outcome": slot.outcome,
        "reason": slot.reason,
        "repeated_bytes": slot.repeated_bytes,
        "skipped_bytes": slot.skipped_bytes,
        "text": REASONS[slot.reason],
    }

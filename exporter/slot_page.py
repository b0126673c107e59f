"""The page of one slot: what is wrong and why, what to do, its retained WAL of the last hour, and the evidence."""

import time
from collections.abc import Sequence

from exporter import held_wal_chart
from exporter.held_wal import SPACING_SECONDS
from exporter.landing import utc
from exporter.latest_look import ClusterLook
from pgslot.pages.frame import REFRESH_SECONDS, environment
from pgslot.status import wording
from pgslot.status.advice import advice
from pgslot.status.explanation import explanation
from pgslot.status.growth import HeldSample
from pgslot.status.slot_status import RoomLimit, SlotStatus

UP = "../../../"
"""From the page to `/`."""

_TEMPLATES = environment("exporter")


def slot_page(
    look: ClusterLook, slot: SlotStatus, samples: Sequence[HeldSample], evidence: Sequence[tuple[str, str]]
) -> str:
    """Return the page. `samples`: what it retained, oldest first. `evidence`: names and values of its series."""
    age = look.ages.get(slot.node, 0.0)
    drawing = held_wal_chart.chart(samples, _limit(slot))
    return _TEMPLATES.get_template("slot.html").render(
        refresh_seconds=REFRESH_SECONDS,
        up=UP,
        slot=slot,
        when=f"{utc(time.time() - age)}, {age:.0f} s ago",
        # A page that refreshes is such a second look.
        explanation=[paragraph.replace(" (--watch)", "") for paragraph in explanation(slot)],
        facts=_facts(slot),
        advised=advice(slot) if slot.needs_attention else (),
        drawing=drawing,
        drawing_summary=None if drawing is None else held_wal_chart.summary(samples),
        no_drawing=_no_drawing(slot, samples),
        table=held_wal_chart.table(samples),
        spacing=round(SPACING_SECONDS),
        evidence=evidence,
        wording=wording,
    )


def no_slot_page(reason: str) -> str:
    """Return the page of a slot that is not there."""
    return _TEMPLATES.get_template("no_slot.html").render(refresh_seconds=REFRESH_SECONDS, up=UP, reason=reason)


def _facts(slot: SlotStatus) -> list[tuple[str, str]]:
    """Return names and values; an empty value is not known, or does not apply."""
    return [
        ("State", wording.state(slot)),
        ("Because of", wording.culprits(slot)),
        ("Used by", wording.user(slot.user)),
        ("Retains", wording.held(slot)),
        ("Growth", wording.growth(slot)),
        ("Room left", wording.room(slot)),
        ("Time left", wording.time_left(slot)),
        ("Failover", wording.failover(slot)),
    ]


def _limit(slot: SlotStatus) -> int | None:
    """Return how much the slot may retain before it is lost; None: no limit of its own, or not known."""
    if slot.room is None or slot.room.limit is not RoomLimit.SLOT or slot.held_bytes is None:
        return None
    return slot.held_bytes + slot.room.left_bytes


def _no_drawing(slot: SlotStatus, samples: Sequence[HeldSample]) -> str:
    if samples:
        return "There is one point so far: the line begins with the next one."
    if slot.held_bytes is None:
        return "It retains no WAL, or that is not known."
    return "The exporter remembers nothing of it yet."

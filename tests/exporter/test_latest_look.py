"""The pages name no session that the series do not name."""

from dataclasses import replace

import pytest

from exporter.latest_look import without_unnamed_sessions
from pgslot.status import wording
from pgslot.status.explanation import explanation
from pgslot.status.slot_status import SlotStatus
from tests.support.builders.pages import look_at
from tests.support.builders.snapshots import CREATION, SLOT, TRANSACTION, node

YOUNG, OLD = 2.0, 60.0
"""A transaction has a series after five seconds."""


def status(age: float) -> SlotStatus:
    """Return a creation that pid 200 blocks, whose transaction is of this age, and pid 201 as well."""
    creation = replace(CREATION, slot_name=SLOT.slot_name, blocking_pids=[200, 201])
    slots = (SLOT._replace(in_creation=True, confirmed_position=None),)
    blocker = replace(TRANSACTION, age_seconds=age)
    look = look_at(node("n", recovery=False, slots=slots, creations=(creation,), transactions=(blocker,)))
    [only] = look.slots
    return only


@pytest.mark.parametrize(("age", "named"), [(OLD, True), (YOUNG, False)])
def test_young_blocker_is_not_named(age: float, *, named: bool) -> None:
    everything = status(age)
    assert "pid 200" in wording.culprits(everything)
    shown = without_unnamed_sessions(everything)
    text = wording.culprits(shown) + " ".join(explanation(shown))
    assert ("pid 200" in text) is named
    assert "pid 201" not in text
    assert "pid 201" in " ".join(explanation(everything))


def test_slot_that_is_not_created_stays_as_it_is() -> None:
    [slot] = look_at(node("n", recovery=False, slots=(SLOT,))).slots
    assert without_unnamed_sessions(slot) is slot

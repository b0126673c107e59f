"""How near slots on standbys are to the loss of their catalog rows: tables of what a cluster's nodes show."""

from dataclasses import replace
from typing import Any

import pytest

from pgslot.diagnosis.catalog_horizon import BrokenFeedback, FeedbackBreak, broken_feedback, catalog_margins
from pgslot.diagnosis.peers import peers_needed
from pgslot.postgres.types import xid_distance
from pgslot.snapshot.cluster import Peers
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import Slot, WalSender
from tests.support.builders.snapshots import FACTS, SLOT, STANDBY, cluster, node, unreachable_node

PHYSICAL = SLOT._replace(
    slot_name="standby", slot_type="physical", database="", catalog_xmin=600, xmin=None, confirmed_position=None
)
OWN = SLOT._replace(slot_name="own", catalog_xmin=650)
COPY = SLOT._replace(slot_name="f", failover=True, synced=True, catalog_xmin=640, active=False)
TEMPORARY = COPY._replace(temporary=True, active=True, in_creation=True, confirmed_position=None)
ORIGINAL = SLOT._replace(slot_name="f", failover=True, synced=False, catalog_xmin=645)
FEEDS_STANDBY = WalSender("standby", "10.0.0.2", "standby")


def primary(*slots: Slot, senders: tuple[WalSender, ...] = (FEEDS_STANDBY,), next_xid: int = 703) -> NodeSnapshot:
    return node("p", recovery=False, slots=slots, senders=senders, facts=replace(FACTS, next_xid=next_xid))


def standby(*slots: Slot, name: str = "s", **settings: Any) -> NodeSnapshot:
    senders = settings.pop("senders", ())
    return node(name, recovery=True, slots=slots, senders=senders, standby=replace(STANDBY, **settings))


def margins(*nodes: NodeSnapshot) -> dict[str, int]:
    """Return the margins of the slots on the last of these nodes."""
    return {slot.slot_name: margin for slot, margin in catalog_margins(nodes[-1], cluster(*nodes))}


MARGINS: dict[str, tuple[tuple[NodeSnapshot, ...], dict[str, int]]] = {
    "the standby's physical slot keeps the rows": ((primary(PHYSICAL), standby(OWN)), {"own": 50}),
    "the physical slot keeps exactly what the slot needs": (
        (primary(PHYSICAL._replace(catalog_xmin=650)), standby(OWN)),
        {"own": 0},
    ),
    "the physical slot's xmin counts as well": (
        (primary(PHYSICAL._replace(catalog_xmin=None, xmin=648)), standby(OWN)),
        {"own": 2},
    ),
    "nothing keeps the rows": ((primary(PHYSICAL._replace(catalog_xmin=None)), standby(OWN)), {"own": -53}),
    "another slot of the primary keeps them": (
        (primary(PHYSICAL._replace(catalog_xmin=None), ORIGINAL._replace(catalog_xmin=500)), standby(OWN)),
        {"own": 150},
    ),
    "a lost slot of the primary keeps nothing": (
        (primary(ORIGINAL._replace(catalog_xmin=500, wal_status="lost")), standby(OWN)),
        {"own": -53},
    ),
    "a walsender without a slot keeps them": (
        (primary(senders=(WalSender("s", "10.0.0.2", "", 649),)), standby(OWN)),
        {"own": 1},
    ),
    "idle since the slot was made": ((primary(next_xid=650), standby(OWN)), {"own": 0}),
    "across the wrap of xids": (
        (primary(next_xid=5), standby(OWN._replace(catalog_xmin=2**32 - 10))),
        {"own": -15},
    ),
    "a copy that is behind its original": (
        (primary(PHYSICAL._replace(catalog_xmin=None), ORIGINAL), standby(COPY)),
        {"f": -5},
    ),
    "a copy that feedback protects": ((primary(PHYSICAL, ORIGINAL), standby(COPY)), {"f": 40}),
    "a temporary copy whose original is behind the standby's horizon": (
        (primary(PHYSICAL, ORIGINAL), standby(TEMPORARY._replace(catalog_xmin=660))),
        {"f": -15},
    ),
    "a temporary copy whose original has passed the standby's horizon": (
        (primary(PHYSICAL, ORIGINAL), standby(TEMPORARY)),
        {"f": 5},
    ),
    "a temporary copy whose original is gone": ((primary(PHYSICAL), standby(TEMPORARY)), {}),
    "an invalidated slot": ((primary(), standby(OWN._replace(invalidation_reason="rows_removed"))), {}),
    "a slot in creation": ((primary(), standby(OWN._replace(in_creation=True))), {}),
    "a session's temporary slot": ((primary(), standby(OWN._replace(temporary=True))), {}),
    "a physical slot": ((primary(), standby(PHYSICAL)), {}),
    "the primary does not answer": ((unreachable_node("p"), standby(OWN)), {}),
    "the primary's slots are not known": ((replace(primary(), slots=None), standby(OWN)), {}),
    "the primary's walsenders are not known": ((replace(primary(), senders=None), standby(OWN)), {}),
    "the primary itself": ((primary(OWN),), {}),
    "left over from a primary of 15, which cannot be used on a standby": (
        (primary(), replace(standby(OWN), facts=replace(FACTS, in_recovery=True, version="15.18"))),
        {},
    ),
}


@pytest.mark.parametrize(("nodes", "expected"), MARGINS.values(), ids=MARGINS.keys())
def test_margin_is_the_distance_to_what_the_primary_keeps(
    nodes: tuple[NodeSnapshot, ...], expected: dict[str, int]
) -> None:
    assert margins(*nodes) == expected


UNFED = PHYSICAL._replace(catalog_xmin=None)
FED = PHYSICAL
MIDDLE = standby(FED._replace(slot_name="leaf"), name="m", senders=(WalSender("leaf", "10.0.0.4", "leaf"),))
LEAF = {"name": "leaf", "receiver_slot_name": "leaf", "primary_slot_name": "leaf"}
MIDDLE_OFF = replace(MIDDLE, standby=replace(STANDBY, hot_standby_feedback=False))

BREAKS: dict[str, tuple[tuple[NodeSnapshot, ...], BrokenFeedback | None]] = {
    "feedback arrives": ((primary(FED), standby(OWN)), None),
    "it is off": (
        (primary(UNFED), standby(OWN, hot_standby_feedback=False)),
        BrokenFeedback(FeedbackBreak.FEEDBACK_OFF, "s"),
    ),
    "it is off, though nothing has to be kept": ((primary(UNFED), standby(hot_standby_feedback=False)), None),
    "the physical slot has no xmin": (
        (primary(UNFED), standby(OWN)),
        BrokenFeedback(FeedbackBreak.SLOT_WITHOUT_XMIN, "s"),
    ),
    "the physical slot keeps it while the standby is away": (
        (primary(FED, senders=()), standby(OWN, receiver_running=False, receiver_slot_name=None)),
        None,
    ),
    "no physical slot, connected": (
        (primary(), standby(OWN, primary_slot_name="", receiver_slot_name=None)),
        None,
    ),
    "no physical slot, away": (
        (
            primary(senders=()),
            standby(OWN, primary_slot_name="", receiver_slot_name=None, receiver_running=False),
        ),
        BrokenFeedback(FeedbackBreak.NO_SLOT, "s"),
    ),
    "a cascade that hands feedback on": ((primary(FED), MIDDLE, standby(OWN, **LEAF)), None),
    "a cascade whose middle is switched off": (
        (primary(UNFED), MIDDLE_OFF, standby(OWN, **LEAF)),
        BrokenFeedback(FeedbackBreak.FEEDBACK_OFF, "m"),
    ),
    "a cascade whose leaf is switched off": (
        (primary(FED), MIDDLE, standby(OWN, **LEAF, hot_standby_feedback=False)),
        BrokenFeedback(FeedbackBreak.FEEDBACK_OFF, "leaf"),
    ),
    "a cascade whose middle gets no feedback": (
        (
            primary(FED),
            replace(MIDDLE, slots=(UNFED._replace(slot_name="leaf"),)),
            standby(OWN, **LEAF),
        ),
        BrokenFeedback(FeedbackBreak.SLOT_WITHOUT_XMIN, "leaf"),
    ),
    "the standby's settings are not known": ((primary(UNFED), replace(standby(OWN), standby=None)), None),
    "the primary's slots are not known": ((replace(primary(), slots=None), standby(OWN)), None),
}


@pytest.mark.parametrize(("nodes", "expected"), BREAKS.values(), ids=BREAKS.keys())
def test_break_names_its_reason_and_the_node_to_blame(
    nodes: tuple[NodeSnapshot, ...], expected: BrokenFeedback | None
) -> None:
    assert broken_feedback(nodes[-1], cluster(*nodes)) == expected


def test_probe_of_a_standby_with_such_a_slot_asks_the_primary() -> None:
    assert peers_needed(standby(OWN)) is Peers.PRIMARY
    assert peers_needed(standby(COPY)) is Peers.PRIMARY
    assert peers_needed(standby(PHYSICAL)) is Peers.NONE
    assert peers_needed(standby(OWN._replace(invalidation_reason="rows_removed"))) is Peers.NONE


def test_standbys_in_a_circle_end_the_search() -> None:
    """Each seems to stream from the other, as two snapshots taken during a change of the primary may show."""
    first = standby(
        OWN, name="a", receiver_slot_name="a", primary_slot_name="a", senders=(WalSender("b", "10.0.0.3", "b"),)
    )
    second = standby(
        name="b", receiver_slot_name="b", primary_slot_name="b", senders=(WalSender("a", "10.0.0.2", "a"),)
    )
    assert broken_feedback(first, ClusterSnapshot("c", (primary(), first, second))) is None


@pytest.mark.parametrize(
    ("first", "second", "distance"), [(5, 3, 2), (3, 5, -2), (4, 4, 0), (3, 2**32 - 1, 4), (2**32 - 1, 3, -4)]
)
def test_distance_of_xids_wraps_around(first: int, second: int, distance: int) -> None:
    assert xid_distance(first, second) == distance

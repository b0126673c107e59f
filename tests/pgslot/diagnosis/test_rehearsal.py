"""What a rehearsal says: tables of slots and of settings, without servers; tests/rehearsals proves it on servers."""

from dataclasses import replace
from typing import Any

import pytest

from pgslot.diagnosis.rehearsal import rehearse, switchover_targets
from pgslot.diagnosis.rehearsal_model import (
    BEHIND,
    Outcome,
    Phase,
    ProblemKind,
    Rehearsal,
    SlotReason,
)
from pgslot.diagnosis.rehearsal_slots import member_slot
from pgslot.diagnosis.switchover_facts import PatroniSlots, SlotMatcher, SwitchoverFacts
from pgslot.snapshot.model import NodeSnapshot, QueryStatus
from pgslot.snapshot.rows import Slot
from pgslot.snapshot.switchover import SwitchoverSettings
from tests.support.builders.snapshots import FACTS, SLOT, STANDBY, cluster, node, unreachable_node

PLAIN = SLOT._replace(slot_name="s", confirmed_position=5000)
FAILOVER = PLAIN._replace(failover=True)
COPY = FAILOVER._replace(synced=True, active=False, confirmed_position=4000, inactive_since=999_999.0)
CURRENT = COPY._replace(confirmed_position=5000)
STALE = COPY._replace(inactive_since=0.0)
OWN = PLAIN._replace(confirmed_position=3000)
PHYSICAL = SLOT._replace(
    slot_name="s", slot_type="physical", database="", plugin="", confirmed_position=None, failover=False
)
REPLAYED = replace(FACTS, in_recovery=True, wal_written_bytes=1_000_000)
SYNCS = replace(STANDBY, sync_replication_slots=True, slotsync_worker_running=True, primary_slot_name="t")
SETTINGS = SwitchoverSettings(
    max_wal_senders=10, wal_senders=1, hot_standby_feedback=True, sync_replication_slots=True, primary_slot_name=""
)
OF_TARGET = replace(SETTINGS, wal_senders=0, primary_slot_name="t")
BOTH = SwitchoverFacts({"p": SETTINGS, "t": OF_TARGET})
PATRONI = PatroniSlots(
    version=(4, 1, 5), use_slots=True, permanent=(SlotMatcher("s", "logical", "app", "pgoutput"),), ignored=()
)


def primary(*slots: Slot, **rows: Any) -> NodeSnapshot:
    return node("p", recovery=False, slots=slots, **{"facts": replace(FACTS, wal_written_bytes=1_000_000), **rows})


def target(*slots: Slot, **rows: Any) -> NodeSnapshot:
    return node("t", recovery=True, slots=slots, **{"facts": REPLAYED, "standby": SYNCS, **rows})


def rehearsed(
    *nodes: NodeSnapshot, facts: SwitchoverFacts = BOTH, to: str = "t", patroni: PatroniSlots | None = None
) -> Rehearsal:
    snapshot = cluster(*nodes)
    chosen = snapshot.node(to)
    assert chosen is not None
    return rehearse(snapshot, chosen, replace(facts, patroni=patroni))


SLOTS: dict[str, tuple[Slot, tuple[Slot, ...], PatroniSlots | None, Outcome, SlotReason, int | None]] = {
    "copy in step": (FAILOVER, (CURRENT,), None, Outcome.GOES_ON, SlotReason.COPY, 0),
    "copy that lags": (FAILOVER, (COPY,), None, Outcome.GOES_ON, SlotReason.COPY, 1000),
    "copy that nothing keeps in step": (FAILOVER, (STALE,), None, Outcome.GOES_ON, SlotReason.STALE, 1000),
    "copy seen a moment later": (
        FAILOVER,
        (CURRENT._replace(confirmed_position=5100),),
        None,
        Outcome.GOES_ON,
        SlotReason.COPY,
        0,
    ),
    "slot that lost its failover": (PLAIN, (COPY,), None, Outcome.GOES_ON, SlotReason.STALE, 1000),
    "temporary copy": (
        FAILOVER,
        (COPY._replace(temporary=True),),
        None,
        Outcome.ENDS,
        SlotReason.NOT_PERSISTED,
        None,
    ),
    "invalidated copy": (
        FAILOVER,
        (COPY._replace(invalidation_reason="rows_removed"),),
        None,
        Outcome.ENDS,
        SlotReason.COPY_INVALIDATED,
        None,
    ),
    "no copy yet": (FAILOVER, (), None, Outcome.ENDS, SlotReason.NOT_SYNCED, None),
    "no failover": (PLAIN, (), None, Outcome.ENDS, SlotReason.NO_FAILOVER, None),
    "name taken, behind": (FAILOVER, (OWN,), None, Outcome.OTHER_SLOT, SlotReason.NAME_TAKEN, 2000),
    "name taken, plain slot": (PLAIN, (OWN,), None, Outcome.OTHER_SLOT, SlotReason.NAME_TAKEN, 2000),
    "name taken in another database": (
        FAILOVER,
        (OWN._replace(database="other"),),
        None,
        Outcome.ENDS,
        SlotReason.NAME_TAKEN,
        None,
    ),
    "name taken by another plugin": (
        FAILOVER,
        (OWN._replace(plugin="wal2json"),),
        None,
        Outcome.ENDS,
        SlotReason.NAME_TAKEN,
        None,
    ),
    "name taken by a physical slot": (FAILOVER, (PHYSICAL,), None, Outcome.ENDS, SlotReason.NAME_TAKEN, None),
    "name taken by an invalidated slot": (
        FAILOVER,
        (OWN._replace(wal_status="lost"),),
        None,
        Outcome.ENDS,
        SlotReason.NAME_TAKEN,
        None,
    ),
    "temporary slot": (
        PLAIN._replace(temporary=True),
        (),
        None,
        Outcome.ENDS,
        SlotReason.TEMPORARY,
        None,
    ),
    "slot in creation": (PLAIN._replace(in_creation=True), (), None, Outcome.ENDS, SlotReason.IN_CREATION, None),
    "invalidated slot": (
        FAILOVER._replace(wal_status="lost"),
        (COPY,),
        None,
        Outcome.ENDS,
        SlotReason.INVALIDATED,
        None,
    ),
    "permanent slot of Patroni": (PLAIN, (OWN,), PATRONI, Outcome.GOES_ON, SlotReason.PATRONI, 2000),
    "permanent slot that Patroni has not copied": (
        PLAIN,
        (),
        PATRONI,
        Outcome.ENDS,
        SlotReason.PATRONI_RECREATES,
        None,
    ),
    "failover slot and Patroni 4.1": (
        FAILOVER,
        (CURRENT,),
        replace(PATRONI, permanent=()),
        Outcome.GOES_ON,
        SlotReason.COPY,
        0,
    ),
    "failover slot and Patroni 4.0": (
        FAILOVER,
        (CURRENT,),
        replace(PATRONI, version=(4, 0, 7), permanent=()),
        Outcome.ENDS,
        SlotReason.PATRONI_DROPS,
        None,
    ),
    "failover slot that Patroni 4.0 ignores": (
        FAILOVER,
        (CURRENT,),
        PatroniSlots((4, 0, 7), True, (), (SlotMatcher(None, "logical"),)),
        Outcome.GOES_ON,
        SlotReason.COPY,
        0,
    ),
    "physical slot": (PHYSICAL, (), None, Outcome.ENDS, SlotReason.PHYSICAL, None),
    "physical slot on both": (PHYSICAL, (PHYSICAL,), None, Outcome.GOES_ON, SlotReason.SAME_NAME, None),
    "physical slot of the target": (
        PHYSICAL._replace(slot_name="t"),
        (),
        None,
        Outcome.NOT_NEEDED,
        SlotReason.STREAMS_TO_TARGET,
        None,
    ),
    "physical slot of a member": (
        PHYSICAL._replace(slot_name="p"),
        (),
        PATRONI,
        Outcome.GOES_ON,
        SlotReason.PATRONI,
        None,
    ),
    "permanent physical slot": (
        PHYSICAL._replace(slot_name="backup"),
        (),
        replace(PATRONI, permanent=(SlotMatcher("backup", "physical"),)),
        Outcome.GOES_ON,
        SlotReason.PATRONI,
        None,
    ),
}


@pytest.mark.parametrize("name", SLOTS)
def test_each_slot_of_the_primary_has_its_outcome(name: str) -> None:
    slot, there, patroni, outcome, reason, repeated = SLOTS[name]
    [said] = rehearsed(primary(slot), target(*there), patroni=patroni).slots
    assert (said.outcome, said.reason, said.repeated_bytes) == (outcome, reason, repeated)
    assert said.skipped_bytes is None
    assert said.good == (
        (outcome in (Outcome.GOES_ON, Outcome.NOT_NEEDED) and reason not in BEHIND)
        or reason in (SlotReason.TEMPORARY, SlotReason.IN_CREATION, SlotReason.INVALIDATED)
    )


def test_slot_of_the_same_name_that_is_ahead_skips_changes() -> None:
    [said] = rehearsed(primary(PLAIN), target(OWN._replace(confirmed_position=5500))).slots
    assert (said.outcome, said.repeated_bytes, said.skipped_bytes) == (Outcome.OTHER_SLOT, 0, 500)


@pytest.mark.parametrize(
    ("standby", "reason"),
    [
        (replace(SYNCS, sync_replication_slots=False), SlotReason.SYNC_OFF),
        (replace(SYNCS, slotsync_worker_running=False), SlotReason.WORKER_DOWN),
        (None, SlotReason.NO_COPY),
        (replace(SYNCS, apply_delay_seconds=3600.0), SlotReason.NOT_SYNCED),
    ],
)
def test_reason_for_a_missing_copy_is_named(standby: Any, reason: SlotReason) -> None:
    [said] = rehearsed(primary(FAILOVER), target(standby=standby)).slots
    assert (said.outcome, said.reason) == (Outcome.ENDS, reason)


def test_before_17_no_slot_can_be_copied() -> None:
    [said] = rehearsed(primary(PLAIN._replace(failover=None), facts=replace(FACTS, version="16.10")), target()).slots
    assert (said.outcome, said.reason) == (Outcome.ENDS, SlotReason.BEFORE_17)


OWN_SLOTS: dict[str, tuple[Slot, PatroniSlots | None, list[tuple[Outcome, SlotReason]]]] = {
    "logical": (OWN, None, [(Outcome.GOES_ON, SlotReason.OWN)]),
    "physical": (PHYSICAL, None, [(Outcome.GOES_ON, SlotReason.OWN)]),
    "temporary": (OWN._replace(temporary=True), None, [(Outcome.GOES_ON, SlotReason.TEMPORARY)]),
    "invalidated": (OWN._replace(wal_status="lost"), None, [(Outcome.ENDS, SlotReason.INVALIDATED)]),
    "in creation": (OWN._replace(in_creation=True), None, [(Outcome.UNKNOWN, SlotReason.IN_CREATION)]),
    "copy without an original": (CURRENT, None, [(Outcome.GOES_ON, SlotReason.LEFT_BEHIND)]),
    "temporary copy without an original": (CURRENT._replace(temporary=True), None, []),
    "unknown to Patroni": (
        OWN,
        replace(PATRONI, permanent=()),
        [(Outcome.GOES_ON, SlotReason.PATRONI_DROPS)],
    ),
    "ignored by Patroni": (
        OWN,
        replace(PATRONI, permanent=(), ignored=(SlotMatcher("s", None),)),
        [(Outcome.GOES_ON, SlotReason.OWN)],
    ),
}


@pytest.mark.parametrize("name", OWN_SLOTS)
def test_each_slot_of_the_standby_itself_has_its_outcome(name: str) -> None:
    slot, patroni, expected = OWN_SLOTS[name]
    said = rehearsed(primary(), target(slot), patroni=patroni).target_slots
    assert [(slot.outcome, slot.reason) for slot in said] == expected


def with_facts(target_facts: Any = REPLAYED, **settings: SwitchoverSettings) -> Any:
    return target_facts, SwitchoverFacts({"p": SETTINGS, "t": OF_TARGET} | settings)


WAITS = replace(REPLAYED, synchronized_standby_slots="p")
FOLLOWS = replace(SETTINGS, primary_slot_name="p")
SLOT_P = PHYSICAL._replace(slot_name="p", active=False)

OF_REPACK = PLAIN._replace(slot_name="pg_repack_4959", temporary=True, plugin="pgrepack")

PROBLEMS: dict[str, tuple[Rehearsal, list[tuple[ProblemKind, str, tuple[str, ...]]]]] = {
    "nothing, without failover slots": (rehearsed(primary(), target()), []),
    "failover slots leave the old primary's own behind": (
        rehearsed(primary(FAILOVER), target(CURRENT)),
        [(ProblemKind.LEFTOVER, "p", ("s",))],
    ),
    "a name taken stops the synchronisation": (
        rehearsed(primary(FAILOVER), target(OWN)),
        [(ProblemKind.NAME_TAKEN, "t", ("s",))],
    ),
    "a standby that does not stream": (
        rehearsed(primary(), target(standby=replace(SYNCS, receiver_running=False))),
        [(ProblemKind.NOT_STREAMING, "t", ())],
    ),
    "a standby that restores from an archive streams in its way": (
        rehearsed(
            primary(),
            target(
                standby=replace(SYNCS, receiver_running=False, streaming_configured=False, restores_from_archive=True)
            ),
        ),
        [],
    ),
    "wal_level": (
        rehearsed(primary(PLAIN), target(facts=replace(REPLAYED, wal_level="replica"))),
        [(ProblemKind.WAL_LEVEL, "t", ("replica",))],
    ),
    "wal_level from 19 on": (
        rehearsed(primary(PLAIN), target(facts=replace(REPLAYED, wal_level="replica", version="19rc1"))),
        [],
    ),
    "wal_level where nothing decodes": (
        rehearsed(primary(PHYSICAL), target(facts=replace(REPLAYED, wal_level="replica"))),
        [],
    ),
    "synchronized_standby_slots names a slot that the standby does not have": (
        rehearsed(
            primary(FAILOVER),
            target(CURRENT, facts=replace(REPLAYED, synchronized_standby_slots="t, ghost")),
        ),
        [(ProblemKind.STANDBY_SLOT_MISSING, "t", ("t", "ghost")), (ProblemKind.LEFTOVER, "p", ("s",))],
    ),
    "synchronized_standby_slots names a logical slot": (
        rehearsed(primary(FAILOVER), target(CURRENT, facts=replace(REPLAYED, synchronized_standby_slots="s"))),
        [(ProblemKind.STANDBY_SLOT_MISSING, "t", ("s",)), (ProblemKind.LEFTOVER, "p", ("s",))],
    ),
    "the slot of a REPACK needs no wal_level": (
        rehearsed(primary(OF_REPACK), target(facts=replace(REPLAYED, wal_level="minimal"))),
        [],
    ),
    "synchronized_standby_slots without a failover slot": (
        rehearsed(primary(), target(facts=replace(REPLAYED, synchronized_standby_slots="ghost"))),
        [],
    ),
    "synchronized_standby_slots names the slot of the old primary": (
        rehearsed(
            primary(FAILOVER),
            target(CURRENT, SLOT_P, facts=WAITS),
            facts=SwitchoverFacts({"p": FOLLOWS, "t": OF_TARGET}),
        ),
        [(ProblemKind.WAITS_FOR_STANDBY, "t", ("p",)), (ProblemKind.LEFTOVER, "p", ("s",))],
    ),
    "synchronized_standby_slots names a slot that no node uses": (
        rehearsed(primary(FAILOVER), target(CURRENT, SLOT_P, facts=WAITS)),
        [(ProblemKind.STANDBY_SLOT_UNUSED, "t", ("p",)), (ProblemKind.LEFTOVER, "p", ("s",))],
    ),
    "synchronized_standby_slots names the slot of a cascading standby": (
        rehearsed(primary(FAILOVER), target(CURRENT, SLOT_P._replace(active=True), facts=WAITS)),
        [(ProblemKind.LEFTOVER, "p", ("s",))],
    ),
    "Patroni creates the slot that synchronized_standby_slots names": (
        rehearsed(primary(FAILOVER), target(CURRENT, facts=WAITS), patroni=PATRONI),
        [(ProblemKind.WAITS_FOR_STANDBY, "t", ("p",)), (ProblemKind.LEFTOVER, "p", ("s",))],
    ),
    "Patroni's own member slot in synchronized_standby_slots is on no leader of that name": (
        rehearsed(
            primary(FAILOVER),
            target(CURRENT, facts=replace(REPLAYED, synchronized_standby_slots="t")),
            patroni=PATRONI,
        ),
        [(ProblemKind.STANDBY_SLOT_MISSING, "t", ("t",)), (ProblemKind.LEFTOVER, "p", ("s",))],
    ),
    "synchronized_standby_slots on the old primary alone": (
        rehearsed(primary(FAILOVER, facts=replace(FACTS, synchronized_standby_slots="t")), target(CURRENT)),
        [(ProblemKind.NOTHING_TO_WAIT_FOR, "t", ("t",)), (ProblemKind.LEFTOVER, "p", ("s",))],
    ),
    "no other node would synchronise": (
        rehearsed(
            primary(FAILOVER),
            target(CURRENT),
            facts=SwitchoverFacts({"p": replace(SETTINGS, sync_replication_slots=False), "t": OF_TARGET}),
        ),
        [
            (ProblemKind.NO_STANDBY_SYNCS, "t", ("p: sync_replication_slots",)),
            (ProblemKind.LEFTOVER, "p", ("s",)),
        ],
    ),
    "primary_slot_name of the old primary": (
        rehearsed(primary(), target(), facts=SwitchoverFacts({"p": FOLLOWS, "t": OF_TARGET})),
        [(ProblemKind.PRIMARY_SLOT_MISSING, "p", ("p",))],
    ),
    "primary_slot_name of another standby": (
        rehearsed(
            primary(),
            target(),
            node("o", recovery=True, standby=replace(STANDBY, primary_slot_name="o")),
            facts=SwitchoverFacts({"p": SETTINGS, "t": OF_TARGET, "o": replace(SETTINGS, primary_slot_name="o")}),
        ),
        [(ProblemKind.PRIMARY_SLOT_MISSING, "o", ("o",))],
    ),
    "primary_slot_name of a standby that streams from another standby": (
        rehearsed(
            primary(),
            target(),
            node("o", recovery=True, standby=replace(STANDBY, primary_slot_name="o")),
            node("u", recovery=True, slots=(PHYSICAL._replace(slot_name="o", active=True),)),
            facts=SwitchoverFacts(
                {"p": SETTINGS, "t": OF_TARGET, "o": replace(SETTINGS, primary_slot_name="o"), "u": SETTINGS}
            ),
        ),
        [],
    ),
    "Patroni creates the slots of members": (
        rehearsed(primary(), target(), facts=SwitchoverFacts({"p": FOLLOWS, "t": OF_TARGET}), patroni=PATRONI),
        [],
    ),
    "no free slot for the copies": (
        rehearsed(
            primary(FAILOVER),
            target(facts=replace(REPLAYED, replication_slots=10, max_replication_slots=10)),
        ),
        [(ProblemKind.NO_FREE_SLOT, "t", ())],
    ),
    "no free slot for the standbys that follow": (
        rehearsed(
            primary(),
            target(facts=replace(REPLAYED, replication_slots=10, max_replication_slots=10)),
            facts=SwitchoverFacts({"p": FOLLOWS, "t": OF_TARGET}),
        ),
        [(ProblemKind.NO_FREE_SLOT, "t", ()), (ProblemKind.PRIMARY_SLOT_MISSING, "p", ("p",))],
    ),
    "as many walsenders as are allowed": (
        rehearsed(
            primary(),
            target(),
            facts=SwitchoverFacts({"p": replace(SETTINGS, wal_senders=8), "t": replace(OF_TARGET, wal_senders=2)}),
        ),
        [],
    ),
    "more walsenders than are allowed": (
        rehearsed(
            primary(),
            target(),
            facts=SwitchoverFacts({"p": replace(SETTINGS, wal_senders=8), "t": replace(OF_TARGET, wal_senders=3)}),
        ),
        [(ProblemKind.FEW_WAL_SENDERS, "t", ())],
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_each_problem_is_named_with_its_node(name: str) -> None:
    rehearsal, expected = PROBLEMS[name]
    assert [(problem.kind, problem.node, problem.names) for problem in rehearsal.problems] == expected
    assert rehearsal.everything_known
    harmless = all(problem.kind.phase is Phase.TASK for problem in rehearsal.problems)
    assert rehearsal.everything_goes_on == (harmless and all(slot.good for slot in rehearsal.slots))


def test_every_kind_of_problem_is_in_the_table() -> None:
    assert {kind for _, expected in PROBLEMS.values() for kind, _, _ in expected} == set(ProblemKind)


def test_missing_wal_of_a_standby_that_does_not_stream_is_counted() -> None:
    facts = replace(REPLAYED, wal_written_bytes=600_000)
    lags = replace(SYNCS, receiver_running=False, replay_lag_bytes=100_000)
    [problem] = rehearsed(primary(), target(facts=facts, standby=lags)).problems
    assert problem.needed == 300_000


UNKNOWN: dict[str, tuple[Rehearsal, str, str]] = {
    "the target does not answer": (
        rehearsed(primary(FAILOVER), unreachable_node("t")),
        "what t does",
        "t to answer: node unreachable",
    ),
    "the role may not see walsenders": (
        rehearsed(primary(), target(standby=None, facts=replace(REPLAYED, reads_all_stats=False))),
        "whether and how t streams",
        'GRANT pg_read_all_stats, pg_read_all_settings TO "exporter";',
    ),
    "the query of slots failed": (
        rehearsed(
            replace(primary(), slots=None, statuses={"node": QueryStatus.OK, "slots": QueryStatus.TIMEOUT}), target()
        ),
        "a part of what p shows",
        "slots timeout",
    ),
    "the settings were not read": (
        rehearsed(primary(), target(), facts=SwitchoverFacts({"p": SETTINGS, "t": QueryStatus.TIMEOUT})),
        "the settings of t",
        "timeout",
    ),
    "primary_conninfo of another standby": (
        rehearsed(
            primary(),
            target(),
            node("o", recovery=True, standby=replace(STANDBY, upstream_dbname_given=None)),
            facts=SwitchoverFacts({"p": SETTINGS, "t": OF_TARGET, "o": SETTINGS}),
        ),
        "whether primary_conninfo of o",
        'GRANT pg_read_all_stats, pg_read_all_settings TO "exporter";',
    ),
    "Patroni does not answer": (
        rehearsed(primary(), target(), facts=replace(BOTH, patroni_error="http://a/config: refused")),
        "which slots Patroni",
        "http://a/config: refused",
    ),
    "Patroni has no version": (
        rehearsed(primary(FAILOVER), target(CURRENT), patroni=replace(PATRONI, version=None, permanent=())),
        "whether Patroni drops failover slots",
        "its version",
    ),
    "no primary": (rehearsed(target(), node("p", recovery=True)), "which node is the primary", "not in recovery"),
    "the primary is down": (
        rehearsed(unreachable_node("p"), target()),
        "which node is the primary",
        "p: node unreachable",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_could_not_be_seen_is_said_with_what_it_takes(name: str) -> None:
    rehearsal, what, needs = UNKNOWN[name]
    assert not rehearsal.everything_known
    [unknown] = [unknown for unknown in rehearsal.unknown if unknown.what.startswith(what)]
    assert needs in unknown.needs


def test_rehearsal_needs_no_privilege_on_the_primary() -> None:
    without = primary(facts=replace(FACTS, reads_all_stats=False))
    denied = dict.fromkeys(("creations", "transactions", "standby", "senders"), QueryStatus.PERMISSION_DENIED)
    assert rehearsed(replace(without, statuses=without.statuses | denied), target()).everything_known


def test_slot_is_unknown_while_the_target_does_not_show_its_slots() -> None:
    [said] = rehearsed(primary(FAILOVER), unreachable_node("t")).slots
    assert (said.outcome, said.reason) == (Outcome.UNKNOWN, SlotReason.NOT_READ)


def test_every_node_but_the_primary_is_a_target() -> None:
    snapshot = cluster(target(), primary(), unreachable_node("o"))
    assert [node.node for node in switchover_targets(snapshot)] == ["t", "o"]


@pytest.mark.parametrize(("member", "slot"), [("orders-1", "orders_1"), ("A.b", "a_b"), ("a b", "au0032b")])
def test_slot_of_a_member_is_named_as_patroni_names_it(member: str, slot: str) -> None:
    assert member_slot(member) == slot


@pytest.mark.parametrize("setting", ["ANY 1 (t, ghost)", "FIRST 1 (t)"])
def test_standbys_waited_for_are_unknown_in_a_grammar_of_which_nothing_is_known(setting: str) -> None:
    unreadable = replace(REPLAYED, synchronized_standby_slots=setting)
    rehearsal = rehearsed(primary(FAILOVER), target(CURRENT, facts=unreadable))
    assert [problem.kind for problem in rehearsal.problems] == [ProblemKind.LEFTOVER]
    [unknown] = rehearsal.unknown
    assert unknown.what == "which standbys consumers of failover slots wait for on t"
    assert setting in unknown.needs


def test_slot_of_a_repack_is_not_part_of_a_rehearsal() -> None:
    rehearsal = rehearsed(primary(OF_REPACK), target())
    assert (rehearsal.slots, rehearsal.target_slots, rehearsal.problems) == ((), (), ())

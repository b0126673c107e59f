"""Days of a minute on the real stack (tests/day): all invariants hold; and the checker sees what it should."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.samples import Sample

from tests.day import programlog, serverlog
from tests.day.facts import Facts, disagreements, facts, settled
from tests.day.plan import EXPORTER, HEALER, SABOTAGE, Act, Model, Step, plan
from tests.day.run import Day, run
from tests.day.world import Creation, World, late, pending
from tests.stack.stack import HEALER_ROLE, PRIMARY_NODE, STANDBY_NODE

pytestmark = pytest.mark.timeout(400)

SEEDS = [17, 2]
"""With a failover, and with a switchover."""


# --- a day ---


@pytest.mark.e2e
@pytest.mark.parametrize("seed", SEEDS)
def test_the_invariants_hold(seed: int, tmp_path: Path) -> None:
    day = run(plan(seed, 0.75), logs=tmp_path)
    assert not day.violations, told(day)
    # It was no empty day, and somebody was watching.
    assert len(day.taken) > 30
    assert day.made > 0
    assert day.calls > 0
    assert day.looked["facts of a node"] > 50, day.looked
    assert day.looked["counts of sessions"] > 50, day.looked


# --- the checker sees ---


@pytest.mark.e2e
def test_a_slot_that_nobody_heals_and_calls_by_others_are_told(tmp_path: Path) -> None:
    """The primary is idle and the healer dead; somebody else forces a record, and tries to on the standby."""
    steps = (
        Step(0.0, Act.CALL_BY_HAND, PRIMARY_NODE),
        Step(0.0, Act.CALL_BY_HAND, STANDBY_NODE),
        Step(0.5, Act.KILL, name=HEALER),
        Step(0.5, Act.SILENCE, PRIMARY_NODE),
        Step(1.0, Act.CREATE, STANDBY_NODE, "slot_1"),
    )
    day = run(steps, patience=3.0, logs=tmp_path)
    wrong = {violation.invariant: violation for violation in day.violations}
    assert set(wrong) == {
        "every slot that can be made is made",
        "nobody but the healer calls",
        "no call on a standby",
    }, told(day)
    assert "slot_1" in wrong["every slot that can be made is made"].expected
    assert "healer is dead" in wrong["every slot that can be made is made"].found
    assert STANDBY_NODE in wrong["no call on a standby"].found
    assert day.logs is not None
    assert (day.logs / "primary.log").exists()


@pytest.mark.e2e
def test_an_exporter_that_does_not_answer_is_told_with_the_step(tmp_path: Path) -> None:
    steps = (
        Step(0.0, Act.WRITE, PRIMARY_NODE),
        Step(1.0, Act.FREEZE, name=EXPORTER),
        Step(100.0, Act.WRITE, PRIMARY_NODE),
    )
    day = run(steps, logs=tmp_path)
    assert [violation.invariant for violation in day.violations] == ["the exporter answers"], told(day)
    assert day.during == str(steps[1])


def told(day: Day) -> str:
    lines = [f"{at:6.1f}  {step}" for at, step in day.taken]
    return "\n".join([*lines, *map(str, day.violations), f"logs: {day.logs}"])


# --- the plan ---


def test_the_same_seed_gives_the_same_plan() -> None:
    """Also in another process, where sets of names come in another order."""
    command = [sys.executable, "-m", "tests.day", "--seed=17", "--minutes=2", "--plan"]
    printed = {
        subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": f"{seed}"}).stdout
        for seed in (1, 2)
    }
    assert printed == {"".join(f"{step}\n" for step in plan(17, 2))}
    assert plan(17, 2) != plan(18, 2)


@pytest.mark.parametrize("seed", range(50))
def test_every_step_is_possible_and_nothing_is_in_the_way_at_the_end(seed: int) -> None:
    model = Model()
    steps = plan(seed, 2)
    assert [step.at for step in steps] == sorted(step.at for step in steps)
    for step in steps:
        assert model.allows(step), step
        model.take(step)
    left = [model.open, model.prepared, model.paused, model.cut, model.dead]
    assert not any(left), left


def test_all_acts_occur() -> None:
    counted = Counter(step.act for seed in range(10) for step in plan(seed, 1))
    assert set(counted) == set(Act) - SABOTAGE
    assert min(counted.values()) >= 3, counted


def test_acts_are_on_servers_of_the_right_role() -> None:
    for seed in range(20):
        model = Model()
        for step in plan(seed, 2):
            if step.act in (Act.BEGIN, Act.PREPARE, Act.WRITE):
                assert step.node == model.leader
            if step.act in (Act.PAUSE, Act.RESUME, Act.REFUSE, Act.SWALLOW, Act.RECONNECT):
                assert step.node == model.follower
            model.take(step)


# --- what the page has to say ---

ROW = ("2026-11-26 00:00:00", False, 1, 0, 1, None, 0, 1000)
SLOT = ("s", "postgres", "logical", True, "reserved", "", False, 400, 500, None, None)
FACTS = facts("n", ROW, [SLOT])
PAGE = [
    Sample("pgslot_up", {"node": "n"}, 1),
    Sample("pgslot_node_info", {"node": "n", "role": "primary", "version": "18"}, 1),
    Sample("pgslot_replication_slots", {"node": "n"}, 1),
    Sample("pgslot_transactions", {"node": "n", "kind": "prepared"}, 0),
    Sample("pgslot_transactions", {"node": "n", "kind": "xid"}, 1),
    Sample("pgslot_creations_waiting", {"node": "n"}, 0),
    Sample("pgslot_active", {"node": "n", "slot_name": "s", "database": "postgres"}, 1),
    Sample("pgslot_slot_info", {"node": "n", "slot_name": "s", "database": "postgres", "slot_type": "logical"}, 1),
    Sample("pgslot_wal_status", {"node": "n", "slot_name": "s", "database": "postgres", "wal_status": "reserved"}, 1),
    Sample("pgslot_retained_wal_bytes", {"node": "n", "slot_name": "s", "database": "postgres"}, 650),
]
LATER = facts("n", (*ROW[:-1], 1100), [SLOT])


def compared(
    page: list[Sample], before: Facts | None = FACTS, after: Facts | None = LATER, *, down: bool = False
) -> set[str]:
    found = disagreements("n", settled("n", before, after, down=down), page)
    return {violation.expected.partition("{")[0] for violation in found.values()}


def test_a_page_that_is_right() -> None:
    assert compared(PAGE) == set()


@pytest.mark.parametrize("sample", PAGE, ids=lambda sample: sample.name)
def test_a_value_that_is_wrong_or_missing(sample: Sample) -> None:
    without = [one for one in PAGE if one is not sample]
    wrong = sample._replace(value=sample.value + 1000)
    assert sample.name in compared(without)
    assert sample.name in compared([*without, wrong])


def reasons(row: tuple[object, ...], pid: int, blockers: int) -> list[str]:
    creating = ("s", "postgres", "logical", True, "reserved", "", True, 400, None, pid, blockers)
    known = settled("n", *(facts("n", row, [creating]) for _ in range(2)), down=False)
    return [dict(labels)["reason"] for name, labels in known.exact if name == "pgslot_creation_wait_reason"]


def test_why_a_creation_waits_where_it_can_be_told_for_sure() -> None:
    on_standby = ("life", True, 1, 0, 0, False, 1, 1000)
    assert reasons(ROW, 7, 1) == ["transaction"]
    assert reasons(ROW, 7, 0) == []
    assert reasons((*on_standby[:5], True, *on_standby[6:]), 7, 0) == ["replay_paused"]
    assert reasons(on_standby, 7, 1) == []


def test_a_slot_that_is_not_there() -> None:
    ghost = {"node": "n", "slot_name": "ghost", "database": "postgres", "slot_type": "logical"}
    assert compared([*PAGE, Sample("pgslot_slot_info", ghost, 1)]) == {"slots of n: ['s']"}


def test_what_moved_is_not_compared() -> None:
    moved = facts("n", (*ROW[:4], 2, *ROW[5:]), [(*SLOT[:3], False, *SLOT[4:7], 450, *SLOT[8:])])
    wrong = [
        Sample(one.name, one.labels, 7) if one.name in ("pgslot_active", "pgslot_retained_wal_bytes") else one
        for one in PAGE
    ]
    assert compared(wrong, FACTS, moved) == set()
    assert compared(wrong, FACTS, replace(FACTS, life="later")) == set()
    assert compared(wrong, FACTS, None) == set()


def test_a_server_that_is_down() -> None:
    assert compared([Sample("pgslot_up", {"node": "n"}, 0)], None, None, down=True) == set()
    assert compared(PAGE, None, None, down=True) == {"pgslot_up", "slots of n: []"}


# --- what the logs say ---

ACT = "LOG:  execute <unnamed>: \n\tSELECT CASE WHEN true THEN pg_catalog.pg_log_standby_snapshot() END"
FACT = "LOG:  execute <unnamed>: \n\tSELECT to_regprocedure('pg_catalog.pg_log_standby_snapshot()')"


def log(*lines: tuple[float, int, str, str]) -> str:
    return "".join(f"@{at}|{pid}|{f'{user}|app|' if user else ''}{text}\n" for at, pid, user, text in lines)


def found(text: str) -> list[str]:
    calls = list(serverlog.calls_in("n", text))
    return [violation.invariant for violation in serverlog.judged(calls, HEALER_ROLE, 1.0)]


def test_the_healers_calls_on_a_primary_at_their_pace() -> None:
    text = log(
        (1.0, 7, HEALER_ROLE, FACT), (1.5, 7, HEALER_ROLE, ACT), (2.5, 7, HEALER_ROLE, ACT), (2.6, 8, HEALER_ROLE, ACT)
    )
    assert [call.at for call in serverlog.calls_in("n", text)] == [1.5, 2.5, 2.6]
    assert found(text) == []


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([(1.0, 7, "postgres", ACT)], ["nobody but the healer calls"]),
        ([(1.0, 7, "postgres", "LOG:  statement: select pg_log_standby_snapshot ()")], ["nobody but the healer calls"]),
        ([(0.5, 1, "", "LOG:  entering standby mode"), (1.0, 7, HEALER_ROLE, ACT)], ["no call on a standby"]),
        ([(1.0, 7, HEALER_ROLE, ACT), (1.9, 7, HEALER_ROLE, ACT)], ["calls keep their distance"]),
        (
            [
                (0.5, 1, "", "LOG:  entering standby mode"),
                (0.6, 1, "", "LOG:  archive recovery complete"),
                (1.0, 7, HEALER_ROLE, ACT),
            ],
            [],
        ),
        ([(1.0, 7, "postgres", "ERROR:  recovery is in progress"), (1.0, 7, "postgres", f"STATEMENT:  {ACT}")], []),
        ([(1.0, 7, "postgres", "LOG:  statement: GRANT EXECUTE ON FUNCTION pg_log_standby_snapshot() TO x")], []),
    ],
)
def test_calls_that_must_not_be(lines: list[tuple[float, int, str, str]], expected: list[str]) -> None:
    assert found(log(*lines)) == expected


def test_calls_while_no_record_can_arrive() -> None:
    calls = list(serverlog.calls_in("n", log((10.0, 7, HEALER_ROLE, ACT))))
    assert not list(serverlog.useless(calls, [(0.0, 9.0), (9.0, 20.0), (10.1, 20.0)]))
    [violation] = serverlog.useless(calls, [(5.0, 10.5)])
    assert "5.0 s after" in violation.found


def claim(slot: str, outcome: str) -> str:
    event = {"ts": "t", "level": "info", "msg": "heal ended", "logger": "healer", "slot": slot, "outcome": outcome}
    return json.dumps(event | {"node": "n", "calls": 1}) + "\n"


@pytest.mark.parametrize(
    ("slot", "outcome", "wrong"),
    [
        ("made", "healed", False),
        ("abandoned", "healed", False),
        ("waits", "healed", True),
        ("waits", "resolved_itself", True),
        ("waits", "cancelled", False),
        ("waits", "error", True),
    ],
)
def test_claims_of_the_healer(slot: str, outcome: str, wrong: bool) -> None:
    text = claim(slot, outcome)
    assert bool(list(programlog.claims(text, {"made": True, "waits": False, "abandoned": None}, most_calls=9))) is wrong
    assert list(programlog.claims(text, {}, most_calls=0))


def test_a_budget_that_is_overdrawn() -> None:
    calls = list(serverlog.calls_in("n", log(*((float(n), n, HEALER_ROLE, ACT) for n in range(13)))))
    assert not list(serverlog.over_budget(calls, [(0.0, 13.0)], 600))
    assert not list(serverlog.over_budget(calls, [(0.0, 6.0), (6.5, 13.0)], 100))
    [overdrawn] = serverlog.over_budget(calls, [(0.0, 13.0)], 100)
    assert overdrawn.found == "13 in 13 s"


GOOD = '{"ts": "t", "level": "info", "msg": "m", "logger": "healer"}\n'


@pytest.mark.parametrize(
    ("text", "defect"),
    [
        (GOOD, False),
        (GOOD + GOOD[:20], False),
        ("Traceback (most recent call last):\n", True),
        ("sys:1: RuntimeWarning: coroutine 'x' was never awaited\n", True),
        (GOOD.replace('"m"', '"Task exception was never retrieved"'), True),
        (GOOD.replace('"logger"', '"exception": "ValueError", "logger"'), True),
        (GOOD.replace("info", "critical"), True),
    ],
)
def test_defects_in_a_programs_log(text: str, defect: bool) -> None:
    assert bool(list(programlog.defects("healer", text))) is defect


# --- who waits, and for how long ---


class Waiting:
    """In place of a client."""

    done = False
    error: str | None = None


def waiting(node: str = STANDBY_NODE, **more: Any) -> tuple[World, Waiting]:
    world, client = World(PRIMARY_NODE, 40.0), Waiting()
    creation = Creation("s", node, client, **more)  # type: ignore[arg-type]
    world.creations["s"] = creation
    return world, client


def test_a_creation_that_could_be_made_is_late_after_its_time() -> None:
    world, client = waiting()
    assert [bool(late(world, now)) for now in (0.0, 39.0, 41.0)] == [False, False, True]
    client.done = True
    assert not late(world, 42.0)
    assert not pending(world)


@pytest.mark.parametrize(
    ("obstacle", "on_primary"),
    [
        ({"transactions": {"work"}}, True),
        ({"hung": {PRIMARY_NODE}}, True),
        ({"paused": True}, False),
        ({"cut": True}, False),
        ({"dead": {HEALER}}, False),
        ({"dead": {EXPORTER}}, False),
    ],
)
def test_what_is_in_the_way_does_not_count(obstacle: dict[str, Any], on_primary: bool) -> None:
    for node, counts in ((STANDBY_NODE, True), (PRIMARY_NODE, on_primary)):
        world, _ = waiting(node)
        for name, value in obstacle.items():
            setattr(world, name, value)
        assert [bool(late(world, now)) for now in (0.0, 41.0)] == [False, not counts]


def test_a_disturbance_begins_its_time_anew() -> None:
    world, _ = waiting()
    late(world, 0.0)
    world.disturb()
    assert [bool(late(world, now)) for now in (39.0, 78.0, 80.0)] == [False, False, True]


def test_a_creation_that_fails_without_our_doing() -> None:
    world, client = waiting()
    client.done, client.error = True, "all slots are in use"
    [violation] = late(world, 0.0)
    assert violation.found == f"s on {STANDBY_NODE}: all slots are in use"
    world.creations["s"].excused = "its server was stopped"
    assert not late(world, 0.0)

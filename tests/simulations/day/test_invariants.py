"""A day's invariants, without servers: the metrics page, the logs of servers and programs, and overdue creations."""

import json
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.samples import Sample

from tests.simulations.day import programlog, serverlog
from tests.simulations.day.day_state import Creation, DayState, late, pending
from tests.simulations.day.facts import Facts, disagreements, facts, settled
from tests.simulations.day.steps import EXPORTER, HEALER
from tests.support.servers.stack import HEALER_ROLE, PRIMARY_NODE, STANDBY_NODE

# --- the metrics page ---

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


def disagreeing_series(
    page: list[Sample], before: Facts | None = FACTS, after: Facts | None = LATER, *, down: bool = False
) -> set[str]:
    violations = disagreements("n", settled("n", before, after, down=down), page)
    return {violation.expected.partition("{")[0] for violation in violations.values()}


def test_correct_page_has_no_disagreements() -> None:
    assert disagreeing_series(PAGE) == set()


@pytest.mark.parametrize("sample", PAGE, ids=lambda sample: sample.name)
def test_wrong_or_missing_value_is_a_disagreement(sample: Sample) -> None:
    without = [other_sample for other_sample in PAGE if other_sample is not sample]
    wrong = sample._replace(value=sample.value + 1000)
    assert sample.name in disagreeing_series(without)
    assert sample.name in disagreeing_series([*without, wrong])


def reasons(row: tuple[object, ...], pid: int, blockers: int) -> list[str]:
    creating = ("s", "postgres", "logical", True, "reserved", "", True, 400, None, pid, blockers)
    expected = settled("n", *(facts("n", row, [creating]) for _ in range(2)), down=False)
    return [dict(labels)["reason"] for name, labels in expected.exact if name == "pgslot_creation_wait_reason"]


def test_wait_reason_is_expected_only_where_it_is_certain() -> None:
    on_standby = ("life", True, 1, 0, 0, False, 1, 1000)
    assert reasons(ROW, 7, 1) == ["transaction"]
    assert reasons(ROW, 7, 0) == []
    assert reasons((*on_standby[:5], True, *on_standby[6:]), 7, 0) == ["replay_paused"]
    assert reasons(on_standby, 7, 1) == []


def test_nonexistent_slot_is_a_disagreement() -> None:
    ghost = {"node": "n", "slot_name": "ghost", "database": "postgres", "slot_type": "logical"}
    assert disagreeing_series([*PAGE, Sample("pgslot_slot_info", ghost, 1)]) == {"slots of n: ['s']"}


def test_changed_values_are_not_compared() -> None:
    moved = facts("n", (*ROW[:4], 2, *ROW[5:]), [(*SLOT[:3], False, *SLOT[4:7], 450, *SLOT[8:])])
    wrong = [
        Sample(sample.name, sample.labels, 7)
        if sample.name in ("pgslot_active", "pgslot_retained_wal_bytes")
        else sample
        for sample in PAGE
    ]
    assert disagreeing_series(wrong, FACTS, moved) == set()
    assert disagreeing_series(wrong, FACTS, replace(FACTS, life="later")) == set()
    assert disagreeing_series(wrong, FACTS, None) == set()


def test_down_server_has_no_series_except_pgslot_up() -> None:
    assert disagreeing_series([Sample("pgslot_up", {"node": "n"}, 0)], None, None, down=True) == set()
    assert disagreeing_series(PAGE, None, None, down=True) == {"pgslot_up", "slots of n: []"}


# --- the logs ---

ACT = "LOG:  execute <unnamed>: \n\tSELECT CASE WHEN true THEN pg_catalog.pg_log_standby_snapshot() END"
FACT = "LOG:  execute <unnamed>: \n\tSELECT to_regprocedure('pg_catalog.pg_log_standby_snapshot()')"


def log(*lines: tuple[float, int, str, str]) -> str:
    return "".join(f"@{at}|{pid}|{f'{user}|app|' if user else ''}{text}\n" for at, pid, user, text in lines)


def violated_invariants(text: str) -> list[str]:
    calls = list(serverlog.calls_in("n", text))
    return [violation.invariant for violation in serverlog.judged(calls, HEALER_ROLE, 1.0)]


def test_paced_calls_by_healer_on_primary_are_allowed() -> None:
    text = log(
        (1.0, 7, HEALER_ROLE, FACT), (1.5, 7, HEALER_ROLE, ACT), (2.5, 7, HEALER_ROLE, ACT), (2.6, 8, HEALER_ROLE, ACT)
    )
    assert [call.at for call in serverlog.calls_in("n", text)] == [1.5, 2.5, 2.6]
    assert violated_invariants(text) == []


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
def test_forbidden_calls_are_violations(lines: list[tuple[float, int, str, str]], expected: list[str]) -> None:
    assert violated_invariants(log(*lines)) == expected


def test_call_while_no_record_can_arrive_is_a_violation() -> None:
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
def test_false_claim_by_healer_is_a_violation(slot: str, outcome: str, wrong: bool) -> None:
    text = claim(slot, outcome)
    assert bool(list(programlog.claims(text, {"made": True, "waits": False, "abandoned": None}, max_calls=9))) is wrong
    assert list(programlog.claims(text, {}, max_calls=0))


def test_exceeded_budget_is_a_violation() -> None:
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
def test_unsound_log_line_is_a_violation(text: str, defect: bool) -> None:
    assert bool(list(programlog.defects("healer", text))) is defect


# --- overdue creations ---


class Waiting:
    """A stand-in for a client's statement."""

    done = False
    error: str | None = None


def waiting(node: str = STANDBY_NODE, **more: Any) -> tuple[DayState, Waiting]:
    state, client = DayState(PRIMARY_NODE, 40.0), Waiting()
    creation = Creation("s", node, client, **more)  # type: ignore[arg-type]
    state.creations["s"] = creation
    return state, client


def test_possible_creation_is_late_after_patience() -> None:
    state, client = waiting()
    assert [bool(late(state, now)) for now in (0.0, 39.0, 41.0)] == [False, False, True]
    client.done = True
    assert not late(state, 42.0)
    assert not pending(state)


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
def test_time_with_obstacle_does_not_count_as_waiting(obstacle: dict[str, Any], on_primary: bool) -> None:
    for node, counts in ((STANDBY_NODE, True), (PRIMARY_NODE, on_primary)):
        state, _ = waiting(node)
        for name, value in obstacle.items():
            setattr(state, name, value)
        assert [bool(late(state, now)) for now in (0.0, 41.0)] == [False, not counts]


def test_disturbance_restarts_waiting_time() -> None:
    state, _ = waiting()
    late(state, 0.0)
    state.disturb()
    assert [bool(late(state, now)) for now in (39.0, 78.0, 80.0)] == [False, False, True]


def test_creation_that_fails_unexpectedly_is_a_violation() -> None:
    state, client = waiting()
    client.done, client.error = True, "all slots are in use"
    [violation] = late(state, 0.0)
    assert violation.found == f"s on {STANDBY_NODE}: all slots are in use"
    state.creations["s"].excused = "its server was stopped"
    assert not late(state, 0.0)

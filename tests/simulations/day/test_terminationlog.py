"""The judge of a day's ended sessions, on logs of servers as they write them."""

import json

import pytest

from healer.commands.grants import ENDER_ROLE
from healer.remedies.terminate.statements import ACT
from tests.simulations.day import programlog, terminationlog
from tests.simulations.day.day_state import ForgottenTransaction
from tests.simulations.day.terminationlog import EndedSession, EndingAct
from tests.support.blocking_transactions import USER
from tests.support.servers.stack import PRIMARY_NODE

FORGOTTEN = {(PRIMARY_NODE, 70): ForgottenTransaction("forgotten_1", 80.0)}


def entry(at: float, pid: int, text: str, user: str = "postgres") -> str:
    return f"@{at}|{pid}|{f'{user}|app|' if user else ''}{text}\n"


def act(at: float = 100.0, pid: int = 70, xid: int = 750, *, acts: bool = True, kind: str = "creation") -> str:
    values = {1: f"{pid}", 2: f"{xid}", 3: "it''s", 12: kind, 13: "slot_1", 17: "t" if acts else "f"}
    parameters = ", ".join(f"${number} = '{value}'" for number, value in values.items())
    return entry(at, 90, f"LOG:  execute _pg3_0: {ACT}", ENDER_ROLE) + entry(
        at, 90, f"DETAIL:  Parameters: {parameters}", ENDER_ROLE
    )


def ended(at: float = 100.1, pid: int = 70, user: str = USER) -> str:
    return entry(at, pid, "FATAL:  terminating connection due to administrator command", user)


CREATED = entry(95.0, 60, 'LOG:  received replication command: CREATE_REPLICATION_SLOT "slot_1" LOGICAL pgoutput')
WAITS = entry(95.1, 60, "LOG:  logical decoding found initial starting point at 0/3000028") + entry(
    95.1, 60, "DETAIL:  Waiting for transactions (approximately 1) older than 751 to end."
)
WAITING = CREATED + WAITS
STANDBY = entry(1.0, 1, "LOG:  entering standby mode", "")


def test_act_and_its_victim_are_read_from_the_log() -> None:
    events = list(terminationlog.events_in(PRIMARY_NODE, WAITING + act(99.0, acts=False) + act() + ended()))
    expected = EndingAct(100.0, PRIMARY_NODE, ENDER_ROLE, False, 70, 750, "creation", "slot_1")
    assert terminationlog.victims(events) == [(expected, EndedSession(100.1, PRIMARY_NODE, 70, USER, "app"))]
    assert not list(terminationlog.judged(events, FORGOTTEN, idle_seconds=2.0))


@pytest.mark.parametrize(
    ("log", "invariants"),
    [
        (WAITING + act(), set()),
        (
            WAITING + act(81.0) + ended(81.1),
            {"only what the owner allows is ended", "only what is in a slot's way is ended"},
        ),
        (WAITING + act(pid=71) + ended(pid=71), {"only what the owner allows is ended"}),
        (WAITING + act(xid=751) + ended(), {"only what is in a slot's way is ended"}),
        (WAITING + act(kind="retention") + ended(), {"only what is in a slot's way is ended"}),
        (act() + ended(), {"only what is in a slot's way is ended"}),
        (WAITING + ended(), {"nobody but the healer ends sessions"}),
        (WAITING + act() + ended(120.0), {"nobody but the healer ends sessions"}),
        (ended(user="postgres"), set()),
        (entry(99.0, 1, "LOG:  received fast shutdown request", "") + ended(), set()),
        (STANDBY + WAITING + act(), {"no session is ended on a standby"}),
    ],
)
def test_sessions_that_should_not_have_been_ended_are_violations(log: str, invariants: set[str]) -> None:
    events = terminationlog.events_in(PRIMARY_NODE, log)
    assert {violation.invariant for violation in terminationlog.judged(events, FORGOTTEN, 2.0)} == invariants


@pytest.mark.parametrize(
    ("heal", "outcome", "is_violation"),
    [
        ("end_transaction", "healed", True),
        ("end_transaction", "resolved_itself", False),
        ("log_standby_snapshot", "healed", False),
    ],
)
def test_claim_to_have_healed_a_slot_for_which_nobody_was_ended_is_a_violation(
    heal: str, outcome: str, is_violation: bool
) -> None:
    line = json.dumps({"msg": "heal ended", "heal": heal, "slot": "slot_1", "outcome": outcome}) + "\n"
    assert bool(list(programlog.claimed_endings(line, ended_for=()))) is is_violation
    assert not list(programlog.claimed_endings(line, ended_for={"slot_1"}))

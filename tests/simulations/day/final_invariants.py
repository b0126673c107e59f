"""Invariants at the end of a day: no creation waits, no leftovers, and metrics, logs and claims agree."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from healer.commands.grants import ENDER_ROLE
from tests.simulations.day import programlog, serverlog, terminationlog
from tests.simulations.day.day_state import PATIENCE, DayState
from tests.simulations.day.facts import ask
from tests.simulations.day.pair import Pair, logs_of
from tests.simulations.day.steps import EXPORTER, HEALER
from tests.simulations.day.violation import Violation
from tests.support import stories
from tests.support.blocking_transactions import APPLICATION, USER
from tests.support.servers.processes import NotReadyError, wait_for
from tests.support.servers.programs import Program
from tests.support.servers.stack import CLUSTER, EXPORTER_ROLE, HEALER_ROLE, Stack

_T = TypeVar("_T")

ROLES = [EXPORTER_ROLE, HEALER_ROLE, ENDER_ROLE]

BURST_INTERVAL = 1.0
CALLS_PER_HOUR = 500
CALLS_PER_EPISODE = 100
HEALER_SETTINGS = {
    "burst_interval": f"{BURST_INTERVAL:.0f}s",
    "interval": "3s",
    "calls_per_hour": CALLS_PER_HOUR,
    "calls_per_episode": CALLS_PER_EPISODE,
}

IDLE_SECONDS = 2.0
END_TRANSACTIONS = {
    "dry_run": False,
    "users": [USER],
    "applications": [APPLICATION],
    "idle_in_transaction_for": f"{IDLE_SECONDS:.0f}s",
    "at_most_per_hour": 500,
}
THRESHOLDS = stories.THRESHOLDS | {"PgSlotEndangeredByTransaction": "2"}

_LEFT = "SELECT usename, application_name, state FROM pg_catalog.pg_stat_activity WHERE usename = ANY (%s)"


def slots_are_there(pair: Pair, state: DayState) -> Iterator[Violation]:
    """Every slot that a client has got is usable."""
    facts_by_node = {node: ask(server, node) for node, server in pair.nodes.items()}
    for creation in state.creations.values():
        facts = facts_by_node[creation.node]
        got_slot = creation.statement.done and creation.statement.error is None
        if got_slot and (facts is None or creation.name not in facts.usable):
            yield Violation("a slot that was made is usable", creation.name, f"not on {creation.node}")


def none_in_creation(pair: Pair) -> Iterator[Violation]:
    """No creation is left: without obstacles even those whose clients are gone finish or fail."""

    def remaining_creations() -> list[str]:
        answers = [ask(server, node) for node, server in pair.nodes.items()]
        return sorted(name for facts in answers for name in (facts.creating if facts else ["a server does not answer"]))

    if remaining := _after_patience(remaining_creations):
        yield Violation("no creation is left", f"none after {PATIENCE:.0f} s", f"{remaining}")


def no_alert_is_left(stack: Stack) -> Iterator[Violation]:
    """No alert about a waiting creation is left."""
    names = (
        "PgSlotCreationWaiting",
        "PgSlotCreationStuck",
        "PgSlotCreationBlocked",
        "PgSlotEndangeredByTransaction",
    )

    def remaining_alerts() -> list[dict[str, str]]:
        return [alert["labels"] for alert in stack.prometheus.alerts() if alert["labels"]["alertname"] in names]

    if remaining := _after_patience(remaining_alerts):
        yield Violation("alerts end with what they are about", f"none after {PATIENCE:.0f} s", f"{remaining}")


def _after_patience(remaining: Callable[[], list[_T]]) -> list[_T]:
    """Wait until nothing is left, at most PATIENCE; return the rest."""
    deadline = time.monotonic() + PATIENCE
    while (rest := remaining()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return rest


def calls_are_counted(healer: Program, pair: Pair, start: float) -> Iterator[Violation]:
    """The healer's counter agrees with the servers' logs since its start; failed calls may have arrived or not."""

    def count() -> dict[str, int]:
        samples = healer.samples("pgslot_heal_calls_total", cluster=CLUSTER, remedy="log_standby_snapshot")
        return {sample.labels["result"]: int(sample.value) for sample in samples}

    before = count()
    arrived = sum(call.at >= start and call.user == HEALER_ROLE for call in calls_of(pair))
    after = count()
    maximum = sum(after[result] for result in ("ok", "locked", "error")) + 1
    # One call may be in flight during the count.
    if not before["ok"] <= arrived <= maximum:
        yield Violation("the healer counts its calls", f"{arrived}, as the servers' logs have it", f"{after}")


def terminations_are_counted(healer: Program, pair: Pair, start: float) -> Iterator[Violation]:
    """The healer's counter of ended sessions agrees with the servers' logs since its start."""

    def count() -> dict[str, int]:
        samples = healer.samples("pgslot_heal_calls_total", cluster=CLUSTER, remedy="end_transaction")
        return {sample.labels["result"]: int(sample.value) for sample in samples}

    before = count()
    ended = sum(act.at >= start for act, _ in terminationlog.victims(logged_terminations(pair)))
    after = count()
    # One act may be in flight during the count.
    if not before["ended"] <= ended <= after["ended"] + after["in_doubt"] + 1:
        yield Violation("the healer counts whom it ends", f"{ended}, as the servers' logs have it", f"{after}")


def logged_terminations(pair: Pair) -> list[terminationlog.LoggedEvent]:
    """Return the acts, the ends of sessions and the waits of creations in all logs of both servers."""
    return [
        event
        for node, server in pair.nodes.items()
        for text in serverlog.read(logs_of(server.process))
        for event in terminationlog.events_in(node, text)
    ]


def judged_terminations(pair: Pair, state: DayState) -> Iterator[Violation]:
    yield from terminationlog.judged(logged_terminations(pair), state.forgotten, IDLE_SECONDS)


def programs_end(stack: Stack) -> Iterator[Violation]:
    for name, program in ((HEALER, stack.healer), (EXPORTER, stack.exporter)):
        code = program.stop()
        if code != 0:
            yield Violation("the programs end in order", "exit code 0 within 15 s of SIGTERM", f"{code} of the {name}")


def no_session_is_left(pair: Pair) -> Iterator[Violation]:
    for node, server in pair.nodes.items():
        try:
            wait_for(lambda server=server: not server.sql(_LEFT, [ROLES]), "no session", 10)  # type: ignore[misc]
        except NotReadyError:
            left = server.sql(_LEFT, [ROLES])
            yield Violation("no session is left", "none 10 s after the programs have ended", f"{left} on {node}")


def calls_of(pair: Pair) -> list[serverlog.Call]:
    """Return the calls in all logs of both servers, in order of time."""
    return sorted(
        (
            call
            for node, server in pair.nodes.items()
            for text in serverlog.read(logs_of(server.process))
            for call in serverlog.calls_in(node, text)
        ),
        key=lambda call: call.at,
    )


def logs_are_clean(stack: Stack, pair: Pair) -> Iterator[Violation]:
    for name, program in ((HEALER, stack.healer), (EXPORTER, stack.exporter)):
        for text in serverlog.read(logs_of(program.process)):
            yield from programlog.defects(name, text)
    # Prometheus logs this if two series of a page have the same labels.
    for line in stack.prometheus.process.log.read_text("utf-8", "replace").splitlines():
        if "ingesting" in line:
            yield Violation("Prometheus takes what it scrapes", "no complaint", line[:500])
    for node, server in pair.nodes.items():
        for text in serverlog.read(logs_of(server.process)):
            yield from serverlog.broken(node, text)


def claims_are_true(stack: Stack, pair: Pair, state: DayState) -> Iterator[Violation]:
    """The outcomes that all of the healer's processes logged are true."""
    got_slot = state.got_slot | {
        name: None if creation.excused else creation.statement.done and creation.statement.error is None
        for name, creation in state.creations.items()
    }
    ended_for = {act.slot_name for act, _ in terminationlog.victims(logged_terminations(pair))}
    for text in serverlog.read(logs_of(stack.healer.process)):
        yield from programlog.claims(text, got_slot, CALLS_PER_EPISODE)
        yield from programlog.claimed_endings(text, ended_for)


def judged_calls(calls: Sequence[serverlog.Call], state: DayState) -> Iterator[Violation]:
    yield from serverlog.judged(calls, HEALER_ROLE, BURST_INTERVAL)
    lives = [*state.lives, (state.healer_began, time.time())]
    yield from serverlog.over_budget(calls, lives, CALLS_PER_HOUR)
    yield from serverlog.useless((call for call in calls if call.user == HEALER_ROLE), state.replay_stops)

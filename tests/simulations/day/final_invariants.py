"""What has to be so when the day is over: nobody waits, nothing is left, and what was counted is what was done."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tests.simulations.day import programlog, serverlog
from tests.simulations.day.day_state import PATIENCE, DayState
from tests.simulations.day.facts import ask
from tests.simulations.day.pair import Pair, logs_of
from tests.simulations.day.steps import EXPORTER, HEALER
from tests.simulations.day.violation import Violation
from tests.support.servers.processes import NotReadyError, wait_for
from tests.support.servers.programs import Program
from tests.support.servers.stack import CLUSTER, EXPORTER_ROLE, HEALER_ROLE, Stack

_T = TypeVar("_T")

BURST_INTERVAL = 1.0
CALLS_PER_HOUR = 500
CALLS_PER_EPISODE = 100
HEALER_SETTINGS = {
    "burst_interval": f"{BURST_INTERVAL:.0f}s",
    "interval": "3s",
    "calls_per_hour": CALLS_PER_HOUR,
    "calls_per_episode": CALLS_PER_EPISODE,
}

_LEFT = "SELECT usename, application_name, state FROM pg_catalog.pg_stat_activity WHERE usename IN (%s, %s)"


def slots_are_there(pair: Pair, world: DayState) -> Iterator[Violation]:
    """Each slot that a client has been given is usable, and none is in creation any more, an abandoned one included."""
    found = {node: ask(server, node) for node, server in pair.nodes.items()}
    for creation in world.creations.values():
        facts = found[creation.node]
        given = creation.statement.done and creation.statement.error is None
        if given and (facts is None or creation.name not in facts.usable):
            yield Violation("a slot that was made is usable", creation.name, f"not on {creation.node}")


def none_in_creation(pair: Pair) -> Iterator[Violation]:
    """Nothing holds any up: those whose clients are gone are made, or end, as well."""

    def left() -> list[str]:
        asked = [ask(server, node) for node, server in pair.nodes.items()]
        return sorted(name for facts in asked for name in (facts.creating if facts else ["a server does not answer"]))

    if found := _after_patience(left):
        yield Violation("no creation is left", f"none after {PATIENCE:.0f} s", f"{found}")


def no_alert_is_left(stack: Stack) -> Iterator[Violation]:
    """Nothing waits any more, and nobody is told that it does."""
    names = ("PgSlotCreationWaiting", "PgSlotCreationStuck", "PgSlotCreationBlocked")

    def left() -> list[dict[str, str]]:
        return [alert["labels"] for alert in stack.prometheus.alerts() if alert["labels"]["alertname"] in names]

    if found := _after_patience(left):
        yield Violation("alerts end with what they are about", f"none after {PATIENCE:.0f} s", f"{found}")


def _after_patience(left: Callable[[], list[_T]]) -> list[_T]:
    """Return what is left once nothing is, or when it has had its time."""
    deadline = time.monotonic() + PATIENCE
    while (found := left()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def calls_are_counted(healer: Program, pair: Pair, began: float) -> Iterator[Violation]:
    """The healer has counted as many calls as the servers saw since it began; those that failed may have arrived."""

    def count() -> dict[str, int]:
        samples = healer.samples("pgslot_heal_calls_total", cluster=CLUSTER, remedy="log_standby_snapshot")
        return {sample.labels["result"]: int(sample.value) for sample in samples}

    before = count()
    arrived = sum(call.at >= began and call.user == HEALER_ROLE for call in calls_of(pair))
    after = count()
    most = sum(after[result] for result in ("ok", "locked", "error")) + 1
    # One may be on its way while we count.
    if not before["ok"] <= arrived <= most:
        yield Violation("the healer counts its calls", f"{arrived}, as the servers' logs have it", f"{after}")


def programs_end(stack: Stack) -> Iterator[Violation]:
    for name, program in ((HEALER, stack.healer), (EXPORTER, stack.exporter)):
        code = program.stop()
        if code != 0:
            yield Violation("the programs end in order", "exit code 0 within 15 s of SIGTERM", f"{code} of the {name}")


def no_session_is_left(pair: Pair) -> Iterator[Violation]:
    for node, server in pair.nodes.items():
        try:
            wait_for(lambda server=server: not server.sql(_LEFT, [EXPORTER_ROLE, HEALER_ROLE]), "no session", 10)  # type: ignore[misc]
        except NotReadyError:
            left = server.sql(_LEFT, [EXPORTER_ROLE, HEALER_ROLE])
            yield Violation("no session is left", "none 10 s after the programs have ended", f"{left} on {node}")


def calls_of(pair: Pair) -> list[serverlog.Call]:
    """Return the calls in all logs of both servers, in their order."""
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
    # Two series of the same labels, on a page of ours.
    for line in stack.prometheus.process.log.read_text("utf-8", "replace").splitlines():
        if "ingesting" in line:
            yield Violation("Prometheus takes what it scrapes", "no complaint", line[:500])
    for node, server in pair.nodes.items():
        for text in serverlog.read(logs_of(server.process)):
            yield from serverlog.broken(node, text)


def claims_are_true(stack: Stack, world: DayState) -> Iterator[Violation]:
    """What the healer told of slots, all its processes taken together."""
    given = world.given | {
        name: None if one.excused else one.statement.done and one.statement.error is None
        for name, one in world.creations.items()
    }
    for text in serverlog.read(logs_of(stack.healer.process)):
        yield from programlog.claims(text, given, CALLS_PER_EPISODE)


def judged_calls(calls: Sequence[serverlog.Call], world: DayState) -> Iterator[Violation]:
    yield from serverlog.judged(calls, HEALER_ROLE, BURST_INTERVAL)
    lives = [*world.lives, (world.healer_began, time.time())]
    yield from serverlog.over_budget(calls, lives, CALLS_PER_HOUR)
    yield from serverlog.useless((call for call in calls if call.user == HEALER_ROLE), world.stood)

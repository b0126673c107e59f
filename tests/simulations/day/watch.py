"""Checks the invariants continuously in a separate thread, as a superuser."""

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

import psycopg
import requests
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from healer.commands.grants import ENDER_ROLE
from healer.remedies.attempt import APPLICATION_NAME as HEALER_APPLICATION
from tests.simulations.day.day_state import DayState, late
from tests.simulations.day.facts import Facts, ask, disagreements, settled
from tests.simulations.day.pair import Pair
from tests.simulations.day.steps import EXPORTER
from tests.simulations.day.violation import Violation
from tests.support.servers.stack import EXPORTER_ROLE, HEALER_ROLE, Stack

CHECK_INTERVAL_SECONDS = 0.3
CONFIRMED_BY = 3
"""
Consecutive comparisons that have to disagree. A page may use a snapshot from before the comparison, and the actor may
change a value between the two queries; neither can happen three times in a row to a value that did not change.
"""
TOO_MANY_FOR = 6.0
"""Seconds. A server ends the session of a killed program at its next read, unless the server hangs."""

_SESSIONS = """
SELECT usename, application_name LIKE %s, count(*) FROM pg_catalog.pg_stat_activity
WHERE usename = ANY (%s) GROUP BY 1, 2
"""
_MAX_SESSIONS = {
    (EXPORTER_ROLE, False): ("the exporter's", 1),
    (EXPORTER_ROLE, True): ("the healer's looks'", 2),
    (HEALER_ROLE, True): ("the healer's acts'", 2),
    (ENDER_ROLE, True): ("the healer's acts' that end sessions", 2),
}
"""
One persistent connection per node. The healer has one for every episode, at most one for each remedy, and one for the
check of a remedy's privileges.
"""

ViolationsByKey = dict[tuple[object, ...], Violation]


class InvariantWatch:
    """A context that collects `violations`; `checks` counts the comparisons by kind."""

    def __init__(self, stack: Stack, pair: Pair, state: DayState) -> None:
        self.violations: list[Violation] = []
        self.checks: Counter[str] = Counter()
        self.broken: BaseException | None = None
        """The exception that ended the watch; None: it runs."""
        self._stack = stack
        self._pair = pair
        self._state = state
        self._crowded_since: dict[tuple[str, str], float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        try:
            while not self._stop.wait(CHECK_INTERVAL_SECONDS) and not self.violations:
                self.violations += late(self._state, time.monotonic())
                self.violations += self._metrics()
                self.violations += self._sessions()
        except BaseException as error:
            self.broken = error
            raise

    def _metrics(self) -> list[Violation]:
        violations = self._compare()
        for _ in range(CONFIRMED_BY - 1):
            if not violations:
                break
            repeated = self._compare()
            violations = {key: repeated[key] for key in violations if key in repeated}
        return list(violations.values())

    def _compare(self) -> ViolationsByKey:
        """Query the servers, fetch the page, query again; return the disagreements."""
        pid = self._exporter_pid()
        if pid is None:
            return {}
        down, before = self._down(), self._ask()
        samples = self._page()
        if self._exporter_pid() != pid:
            return {}
        if samples is None:
            text = "no answer, or none that is one"
            return {("page",): Violation("the exporter answers", "/metrics within some seconds", text)}
        after, down_after = self._ask(), self._down()
        violations: ViolationsByKey = {}
        for node in self._pair.nodes:
            expected = settled(node, before[node], after[node], down=node in down and node in down_after)
            self.checks["facts of a node"] += bool(expected.exact)
            self.checks["values compared"] += len(expected.exact) + len(expected.between)
            self.checks["nodes down or hung"] += node in down and node in down_after
            violations |= disagreements(node, expected, samples)
        return violations

    def _exporter_pid(self) -> int | None:
        """Return the exporter's pid; None while it is dead, or about to be."""
        process = self._stack.exporter.process
        return process.pid if EXPORTER not in self._state.dead and process.running else None

    def _ask(self) -> dict[str, Facts | None]:
        with self._state.query_lock:
            down = self._down()
            return {node: None if node in down else ask(server, node) for node, server in self._pair.nodes.items()}

    def _down(self) -> set[str]:
        gone = {node for node, server in self._pair.nodes.items() if not server.process.running}
        return gone | self._state.hung

    def _page(self) -> list[Sample] | None:
        try:
            answer = requests.get(
                f"{self._stack.exporter.url}/metrics",
                # The exporter waits half a second less for a hung server, which hangs for a few seconds only.
                headers={"X-Prometheus-Scrape-Timeout-Seconds": "1.5" if self._state.hung else "2.5"},
                timeout=5,
            )
        except requests.RequestException:
            return None
        if answer.status_code != 200:
            return None
        return [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]

    def _sessions(self) -> list[Violation]:
        """Check the numbers of sessions of both programs on each server that answers."""
        violations = []
        for node, server in self._pair.nodes.items():
            with self._state.query_lock:
                counts = None if node in self._down() else self._count(server.conninfo())
            if counts is None:
                continue
            self.checks["counts of sessions"] += 1
            for kind, (owner, maximum) in _MAX_SESSIONS.items():
                if counts.get(kind, 0) <= maximum:
                    self._crowded_since.pop((node, owner), None)
                    continue
                since = self._crowded_since.setdefault((node, owner), time.monotonic())
                if time.monotonic() - since > TOO_MANY_FOR:
                    text = f"{counts[kind]} on {node} for {TOO_MANY_FOR:.0f} s"
                    violations.append(Violation("connections stay within their number", f"{maximum} of {owner}", text))
        return violations

    def _count(self, conninfo: str) -> dict[tuple[str, bool], int] | None:
        try:
            with psycopg.connect(conninfo, connect_timeout=3, options="-c statement_timeout=3000") as connection:
                roles = [EXPORTER_ROLE, HEALER_ROLE, ENDER_ROLE]
                rows = connection.execute(_SESSIONS, [f"{HEALER_APPLICATION}%", roles]).fetchall()
        except psycopg.Error:
            return None
        return {(user, is_healer): count for user, is_healer, count in rows}

"""Watches all the time that the invariants hold, from a thread of its own, with the eyes of a superuser."""

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

import psycopg
import requests
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

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
Looks in a row that have to disagree. A page may share a look that began before ours, and the actor moves things between
our two questions: neither can happen three times in a row to what has stood still.
"""
TOO_MANY_FOR = 6.0
"""Seconds. The server ends a session whose program was killed when it next reads from it, unless it hangs."""

_SESSIONS = """
SELECT usename, application_name LIKE %s, count(*) FROM pg_catalog.pg_stat_activity
WHERE usename IN (%s, %s) GROUP BY 1, 2
"""
_WHOSE = {
    (EXPORTER_ROLE, False): ("the exporter's", 1),
    (EXPORTER_ROLE, True): ("the healer's looks'", 1),
    (HEALER_ROLE, True): ("the healer's acts'", 2),
}
"""One kept connection a node; the healer's episode has one, and the check of its capability, once a minute, another."""

ViolationsByKey = dict[tuple[object, ...], Violation]


class InvariantWatch:
    """A context. What it has found is in `violations`; `looked` counts what it has compared."""

    def __init__(self, stack: Stack, pair: Pair, world: DayState) -> None:
        self.violations: list[Violation] = []
        self.looked: Counter[str] = Counter()
        self.broken: BaseException | None = None
        """The watch itself has ended in an error, and saw nothing from then on."""
        self._stack = stack
        self._pair = pair
        self._world = world
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
                self.violations += late(self._world, time.monotonic())
                self.violations += self._metrics()
                self.violations += self._sessions()
        except BaseException as error:
            self.broken = error
            raise

    def _metrics(self) -> list[Violation]:
        found = self._compare()
        for _ in range(CONFIRMED_BY - 1):
            if not found:
                break
            again = self._compare()
            found = {about: again[about] for about in found if about in again}
        return list(found.values())

    def _compare(self) -> ViolationsByKey:
        """Ask the servers, fetch the page, ask again; return what the page says otherwise."""
        life = self._exporter()
        if life is None:
            return {}
        down, before = self._down(), self._ask()
        samples = self._page()
        if self._exporter() != life:
            return {}
        if samples is None:
            text = "no answer, or none that is one"
            return {("page",): Violation("the exporter answers", "/metrics within some seconds", text)}
        after, down_after = self._ask(), self._down()
        found: ViolationsByKey = {}
        for node in self._pair.nodes:
            known = settled(node, before[node], after[node], down=node in down and node in down_after)
            self.looked["facts of a node"] += bool(known.exact)
            self.looked["values compared"] += len(known.exact) + len(known.between)
            self.looked["nodes down or hung"] += node in down and node in down_after
            found |= disagreements(node, known, samples)
        return found

    def _exporter(self) -> int | None:
        """Return which process it is; None while it is dead, or about to be."""
        process = self._stack.exporter.process
        return process.pid if EXPORTER not in self._world.dead and process.running else None

    def _ask(self) -> dict[str, Facts | None]:
        with self._world.asking:
            down = self._down()
            return {node: None if node in down else ask(server, node) for node, server in self._pair.nodes.items()}

    def _down(self) -> set[str]:
        gone = {node for node, server in self._pair.nodes.items() if not server.process.running}
        return gone | self._world.hung

    def _page(self) -> list[Sample] | None:
        try:
            answer = requests.get(
                f"{self._stack.exporter.url}/metrics",
                # Half a second less is what it waits for a server that hangs, which lasts no longer than some seconds.
                headers={"X-Prometheus-Scrape-Timeout-Seconds": "1.5" if self._world.hung else "2.5"},
                timeout=5,
            )
        except requests.RequestException:
            return None
        if answer.status_code != 200:
            return None
        return [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]

    def _sessions(self) -> list[Violation]:
        """Count the sessions of our programs on each server that answers."""
        found = []
        for node, server in self._pair.nodes.items():
            with self._world.asking:
                counted = None if node in self._down() else self._count(server.conninfo())
            if counted is None:
                continue
            self.looked["counts of sessions"] += 1
            for kind, (whose, most) in _WHOSE.items():
                if counted.get(kind, 0) <= most:
                    self._crowded_since.pop((node, whose), None)
                    continue
                since = self._crowded_since.setdefault((node, whose), time.monotonic())
                if time.monotonic() - since > TOO_MANY_FOR:
                    text = f"{counted[kind]} on {node} for {TOO_MANY_FOR:.0f} s"
                    found.append(Violation("connections stay within their number", f"{most} of {whose}", text))
        return found

    def _count(self, conninfo: str) -> dict[tuple[str, bool], int] | None:
        try:
            with psycopg.connect(conninfo, connect_timeout=3, options="-c statement_timeout=3000") as connection:
                rows = connection.execute(_SESSIONS, [f"{HEALER_APPLICATION}%", EXPORTER_ROLE, HEALER_ROLE]).fetchall()
        except psycopg.Error:
            return None
        return {(user, of_healer): count for user, of_healer, count in rows}

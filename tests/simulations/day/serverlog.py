"""
The calls of pg_log_standby_snapshot() as the servers' logs have them, and what is wrong with them.

With log_statement = all a server writes down each statement before it runs it, with the role that its session has: no
program can hide one there, nor make one up. What a statement merely mentions between quotes is no call.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.simulations.day.violation import Violation

_ENTRY = re.compile(r"^@(?P<at>\d+\.\d+)\|(?P<pid>\d+)\|(?:(?P<user>[^|]*)\|[^|]*\|)?(?P<text>.*)", re.DOTALL)
_STATEMENT = re.compile(r"LOG:\s+(?:statement|execute [^:]*|fastpath [^:]*): (?P<sql>.*)", re.DOTALL)
_CALL = re.compile(r"\bpg_log_standby_snapshot\s*\(")
_GRANT = re.compile(r"\s*(?:GRANT|REVOKE)\b")
_STANDBY = "LOG:  entering standby mode"
_PROMOTED = "LOG:  archive recovery complete"
_BROKEN = ("PANIC:", "TRAP:", "was terminated by signal 11", "was terminated by signal 6")


@dataclass(frozen=True)
class Call:
    """One statement that calls it. `at`: Unix time."""

    at: float
    node: str
    pid: int
    user: str
    on_standby: bool


@dataclass(frozen=True)
class Entry:
    at: float
    pid: int
    user: str
    text: str


def entries(text: str) -> Iterator[Entry]:
    """Return a log's entries; what the server's programs write without a prefix belongs to the entry before."""
    lines: list[str] = []
    for line in [*text.splitlines(), "@0.0|0|"]:
        if _ENTRY.match(line) and lines:
            found = _ENTRY.match("\n".join(lines))
            if found is not None:
                yield Entry(float(found["at"]), int(found["pid"]), found["user"] or "", found["text"])
            lines = []
        lines.append(line)


def calls_in(node: str, text: str) -> Iterator[Call]:
    """Return the calls in the log of one start of a server, which tells when it is a standby."""
    standby = False
    for entry in entries(text):
        if entry.text.startswith(_STANDBY):
            standby = True
        elif entry.text.startswith(_PROMOTED):
            standby = False
        statement = _STATEMENT.match(entry.text)
        if statement is None or _GRANT.match(statement["sql"]):
            continue
        if _CALL.search(re.sub(r"'(?:[^']|'')*'", "''", statement["sql"])):
            yield Call(entry.at, node, entry.pid, entry.user, standby)


def broken(node: str, text: str) -> Iterator[Violation]:
    for line in text.splitlines():
        if any(word in line for word in _BROKEN):
            yield Violation("the servers themselves are sound", "no PANIC", f"{node}: {line[:300]}")


def judged(calls: Iterable[Call], healer: str, burst_interval: float) -> Iterator[Violation]:
    """Return what no call may be: by anybody else, on a standby, sooner after the one before than the pace allows."""
    by_session: dict[tuple[str, int], list[Call]] = {}
    for call in calls:
        if call.user != healer:
            yield Violation("nobody but the healer calls", f"by {healer}", f"{call}")
        if call.on_standby:
            yield Violation("no call on a standby", "on a primary", f"{call}")
        if call.user == healer:
            by_session.setdefault((call.node, call.pid), []).append(call)
    for session in by_session.values():
        # One session has one caller. It counts from the end of its call, so that no delay makes this shorter.
        for before, after in pairwise(sorted(session, key=lambda call: call.at)):
            if after.at - before.at < burst_interval - 0.01:
                found = f"{after.at - before.at:.2f} s between {before} and {after}"
                yield Violation("calls keep their distance", f"at least {burst_interval:.1f} s", found)


def over_budget(calls: Iterable[Call], lives: Iterable[tuple[float, float]], per_hour: int) -> Iterator[Violation]:
    """Return the lives (from, to, in Unix time) with more calls than the budget gives, a tenth of it at the start."""
    times = [call.at for call in calls]
    for began, ended in lives:
        most = per_hour / 10 + (ended - began) * per_hour / 3600 + 1
        made = sum(began <= at <= ended for at in times)
        if made > most:
            yield Violation("calls stay in budget", f"at most {most:.0f}", f"{made} in {ended - began:.0f} s")


NOTICED = 3.0
"""Seconds until the healer, which looks each second, has to know that replay stands still."""


def useless(calls: Iterable[Call], stood: Iterable[tuple[float, float]]) -> Iterator[Violation]:
    """Return the calls that were made while no record could arrive (from, to, in Unix time), as was to be seen."""
    times = list(stood)
    for call in calls:
        for began, ended in times:
            if began + NOTICED < call.at < ended:
                found = f"{call}, {call.at - began:.1f} s after that began"
                yield Violation(
                    "no call while replay stands still", "none while it is paused, or WAL is cut off", found
                )


def read(files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        yield file.read_text("utf-8", "replace")

"""
The calls of pg_log_standby_snapshot() in the servers' logs, and the checks of them.

With log_statement = all a server logs each statement before it runs it, with the role of the session, so the log has
exactly the calls that were made. The function's name in a string literal or a comment is not a call.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.simulations.day.violation import Violation

_ENTRY = re.compile(
    r"^@(?P<at>\d+\.\d+)\|(?P<pid>\d+)\|(?:(?P<user>[^|]*)\|(?P<application>[^|]*)\|)?(?P<text>.*)", re.DOTALL
)
STATEMENT = re.compile(r"LOG:\s+(?:statement|execute [^:]*|fastpath [^:]*): (?P<sql>.*)", re.DOTALL)
_CALL = re.compile(r"\bpg_log_standby_snapshot\s*\(")
_GRANT = re.compile(r"\s*(?:GRANT|REVOKE)\b")
_STANDBY = "LOG:  entering standby mode"
_PROMOTED = "LOG:  archive recovery complete"
_BROKEN = ("PANIC:", "TRAP:", "was terminated by signal 11", "was terminated by signal 6")


@dataclass(frozen=True)
class Call:
    """A statement that calls pg_log_standby_snapshot(). `at`: Unix time."""

    at: float
    node: str
    pid: int
    user: str
    on_standby: bool


@dataclass(frozen=True)
class Entry:
    """`user` and `application` are empty in entries of the server's own processes."""

    at: float
    pid: int
    user: str
    application: str
    text: str


def entries(text: str) -> Iterator[Entry]:
    """Return the entries of a log; a line without the prefix belongs to the entry before it."""
    lines: list[str] = []
    for line in [*text.splitlines(), "@0.0|0|"]:
        if _ENTRY.match(line) and lines:
            entry = _ENTRY.match("\n".join(lines))
            if entry is not None:
                user, application = entry["user"] or "", entry["application"] or ""
                yield Entry(float(entry["at"]), int(entry["pid"]), user, application, entry["text"])
            lines = []
        lines.append(line)


def with_role(text: str) -> Iterator[tuple[Entry, bool]]:
    """Return the entries of the log of one start of a server, and for each whether the server was a standby then."""
    standby = False
    for entry in entries(text):
        if entry.text.startswith(_STANDBY):
            standby = True
        elif entry.text.startswith(_PROMOTED):
            standby = False
        yield entry, standby


def calls_in(node: str, text: str) -> Iterator[Call]:
    """Return the calls in the log of one start of a server."""
    for entry, standby in with_role(text):
        statement = STATEMENT.match(entry.text)
        if statement is None or _GRANT.match(statement["sql"]):
            continue
        without_comments = re.sub(r"--.*", "", statement["sql"])
        if _CALL.search(re.sub(r"'(?:[^']|'')*'", "''", without_comments)):
            yield Call(entry.at, node, entry.pid, entry.user, standby)


def broken(node: str, text: str) -> Iterator[Violation]:
    for line in text.splitlines():
        if any(word in line for word in _BROKEN):
            yield Violation("the servers themselves are sound", "no PANIC", f"{node}: {line[:300]}")


def judged(calls: Iterable[Call], healer: str, burst_interval: float) -> Iterator[Violation]:
    """Return the calls by another role, on a standby, or too soon after the previous call of the session."""
    by_session: dict[tuple[str, int], list[Call]] = {}
    for call in calls:
        if call.user != healer:
            yield Violation("nobody but the healer calls", f"by {healer}", f"{call}")
        if call.on_standby:
            yield Violation("no call on a standby", "on a primary", f"{call}")
        if call.user == healer:
            by_session.setdefault((call.node, call.pid), []).append(call)
    for session in by_session.values():
        # A session has one caller, which counts from the end of its call, so delays cannot shorten the interval.
        for before, after in pairwise(sorted(session, key=lambda call: call.at)):
            if after.at - before.at < burst_interval - 0.01:
                actual = f"{after.at - before.at:.2f} s between {before} and {after}"
                yield Violation("calls keep their distance", f"at least {burst_interval:.1f} s", actual)


def over_budget(calls: Iterable[Call], lives: Iterable[tuple[float, float]], per_hour: int) -> Iterator[Violation]:
    """Return the lives (start and end in Unix time) with more calls than the budget, with a tenth at once."""
    times = [call.at for call in calls]
    for start, end in lives:
        max_calls = per_hour / 10 + (end - start) * per_hour / 3600 + 1
        call_count = sum(start <= at <= end for at in times)
        if call_count > max_calls:
            yield Violation("calls stay in budget", f"at most {max_calls:.0f}", f"{call_count} in {end - start:.0f} s")


NOTICE_SECONDS = 3.0
"""Seconds until the healer, which takes a snapshot every second, must know that replay stands still."""


def useless(calls: Iterable[Call], replay_stops: Iterable[tuple[float, float]]) -> Iterator[Violation]:
    """Return the calls at times when no record could arrive (start and end in Unix time), as the healer could know."""
    stops = list(replay_stops)
    for call in calls:
        for start, end in stops:
            if start + NOTICE_SECONDS < call.at < end:
                actual = f"{call}, {call.at - start:.1f} s after that began"
                yield Violation(
                    "no call while replay stands still", "none while it is paused, or WAL is cut off", actual
                )


def read(files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        yield file.read_text("utf-8", "replace")

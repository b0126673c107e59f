"""
The sessions that the healer ended, in the servers' logs, and the checks of them.

With log_statement = all a server logs the healer's acting statement with its parameters before it runs it, and the end
of each session that was terminated. A decoder logs which transactions its slot's creation waits for.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from healer.commands.grants import ENDER_ROLE
from healer.remedies.terminate.blocking_transaction import BlockKind
from pgslot.postgres.types import xid_precedes
from tests.simulations.day import serverlog
from tests.simulations.day.day_state import ForgottenTransaction
from tests.simulations.day.violation import Violation
from tests.support.blocking_transactions import USER

END_SECONDS = 10.0
"""Within which the session's end is logged after the statement: a server may hang in between."""

_TERMINATES = re.compile(r"\bpg_terminate_backend\s*\(")
_PARAMETER = re.compile(r"\$(\d+) = '((?:[^']|'')*)'")
_CREATES = re.compile(r"CREATE_REPLICATION_SLOT \"?(\w+)|pg_create_logical_replication_slot\('(\w+)'")
_WAITS = re.compile(r"Waiting for transactions \(approximately \d+\) older than (\d+) to end")
_ENDED = "FATAL:  terminating connection due to administrator command"
_SHUTDOWN = "received fast shutdown request"


@dataclass(frozen=True)
class EndingAct:
    """One run of the acting statement that was not only a check; it may have refused."""

    at: float
    node: str
    user: str
    on_standby: bool
    pid: int
    """Of the session that it was to end."""
    xid: int
    kind: str
    slot_name: str


@dataclass(frozen=True)
class EndedSession:
    """A session that was terminated while its server ran on."""

    at: float
    node: str
    pid: int
    user: str
    application: str


@dataclass(frozen=True)
class CreationWait:
    """From now on the creation of a slot waits for all transactions that are older than an xid."""

    at: float
    node: str
    slot_name: str
    older_than: int


LoggedEvent = EndingAct | EndedSession | CreationWait


def events_in(node: str, text: str) -> Iterator[LoggedEvent]:
    """Return what the log of one start of a server has of all this, in its order."""
    acting: set[int] = set()
    """Sessions whose last statement was the acting one; its parameters follow."""
    slots: dict[int, str] = {}
    for entry, on_standby in serverlog.with_role(text):
        if _SHUTDOWN in entry.text:
            return
        if (statement := serverlog.STATEMENT.match(entry.text)) is not None:
            acting.discard(entry.pid)
            if entry.user == ENDER_ROLE and _TERMINATES.search(statement["sql"]):
                acting.add(entry.pid)
        if (created := _CREATES.search(entry.text)) is not None:
            slots[entry.pid] = created[1] or created[2]
        elif (wait := _WAITS.search(entry.text)) is not None and entry.pid in slots:
            yield CreationWait(entry.at, node, slots[entry.pid], int(wait[1]))
        elif entry.text.startswith(_ENDED):
            yield EndedSession(entry.at, node, entry.pid, entry.user, entry.application)
        elif entry.text.startswith("DETAIL:") and entry.pid in acting:
            acting.discard(entry.pid)
            values = {int(number): value.replace("''", "'") for number, value in _PARAMETER.findall(entry.text)}
            if values[17] == "t":
                target = (int(values[1]), int(values[2]), values[12], values[13])
                yield EndingAct(entry.at, node, entry.user, on_standby, *target)


def victims(events: Iterable[LoggedEvent]) -> list[tuple[EndingAct, EndedSession]]:
    """Return the sessions that the healer ended, each with the act that did it."""
    events = list(events)
    acts = [event for event in events if isinstance(event, EndingAct)]
    return [
        (act, ended)
        for ended in events
        if isinstance(ended, EndedSession) and (act := _act_of(ended, acts)) is not None
    ]


def judged(
    events: Iterable[LoggedEvent], forgotten: Mapping[tuple[str, int], ForgottenTransaction], idle_seconds: float
) -> Iterator[Violation]:
    """
    Return the acts on a standby, and the sessions that were ended and should not have been.

    `forgotten`: those that the owner allows to be ended, by node and pid, after they were idle for so many seconds.
    """
    events = list(events)
    acts = [event for event in events if isinstance(event, EndingAct)]
    for act in acts:
        if act.on_standby:
            yield Violation("no session is ended on a standby", "on a primary", f"{act}")
    for ended in events:
        if not isinstance(ended, EndedSession):
            continue
        by = _act_of(ended, acts)
        if by is None:
            if ended.user == USER:
                yield Violation("nobody but the healer ends sessions", "an act of the healer's before it", f"{ended}")
            continue
        owned = forgotten.get((ended.node, ended.pid))
        if owned is None:
            yield Violation("only what the owner allows is ended", f"a session of {USER}", f"{ended} by {by}")
        elif by.at - owned.began < idle_seconds:
            idle = f"{by.at - owned.began:.1f} s"
            yield Violation("only what the owner allows is ended", f"idle for {idle_seconds:.0f} s", f"{idle}: {by}")
        if (why := _not_in_the_way(by, events)) is not None:
            yield Violation(
                "only what is in a slot's way is ended", f"slot {by.slot_name} waits for it", f"{why}: {by}"
            )


def _act_of(ended: EndedSession, acts: Iterable[EndingAct]) -> EndingAct | None:
    """Return the act that ended a session; None: none of the healer's did."""
    return next(
        (
            act
            for act in acts
            if (act.node, act.pid) == (ended.node, ended.pid) and 0.0 <= ended.at - act.at < END_SECONDS
        ),
        None,
    )


def _not_in_the_way(act: EndingAct, events: Iterable[LoggedEvent]) -> str | None:
    """Return why a log does not show that the slot waited for this transaction; None: it does."""
    if act.kind == BlockKind.RETENTION:
        return "no limit is predicted to cost an existing slot in a day"
    waits = [
        event
        for event in events
        if isinstance(event, CreationWait) and event.slot_name == act.slot_name and event.at <= act.at
    ]
    if not waits:
        return "it waits for nothing"
    last = max(waits, key=lambda wait: wait.at)
    return None if xid_precedes(act.xid, last.older_than) else f"it waits for those older than {last.older_than}"

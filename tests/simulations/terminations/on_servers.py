"""
The judge on real servers: a healer whose own times are unchanged, scenarios of every kind, and an independent oracle.

Every act is judged in the moment in which it is made, by what the server's WAL and log say (oracle.py).
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

from healer.remedies.progress import Outcome
from healer.remedies.terminate.guards import Refusal
from healer.remedies.terminate.statements import ACT
from pgslot.config.model import HealerSettings, TerminationPolicy
from pgslot.postgres.pipeline import Statement
from pgslot.postgres.session import Session, SessionQuery
from tests.simulations.terminations import judge, oracle
from tests.simulations.terminations.scenarios import ALLOWED, HELD, SET_UP, OpenSession, Scene
from tests.support.blocking_transactions import POLICY, cluster_with_termination, endangered_alert, set_up_roles
from tests.support.running_healer import Healer, healing
from tests.support.servers.postgres import Postgres
from tests.support.servers.sessions import Statement as ServerStatement
from tests.support.servers.stack import Stack
from tests.support.servers.wal import WalRecord, records_between

SCENARIO_SECONDS = 60.0
"""After which, from the last act on, a scenario ends whatever the healer does."""
REPEAT_SECONDS = 10
"""Between two posts of the alert: the first comes sooner than by the rules, and may find no sign of a holder yet."""
AFTER_SECONDS = 8.0
"""For which a scenario is still watched whose slot is free, or in which nothing more is about to happen."""
OUTCOME_SECONDS = 15.0
"""Within which the healer says how it ended, once the alert is withdrawn."""
SETTINGS = HealerSettings()
REAL_POLICY: TerminationPolicy = replace(POLICY, idle_in_transaction_for=3.0, databases=("postgres", "shop"))


@dataclass
class ServerJudge:
    """Judges every act on one server."""

    server: Postgres
    standby: Postgres
    mistakes: Counter[str] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)
    """By scenario."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Checks and acts that a guard refused, by guard."""
    without_act: Counter[str] = field(default_factory=Counter)
    """Scenarios without an act, with the last outcome of their slot."""
    scenarios: int = 0
    scenario: str = ""
    scene: Scene | None = None
    ended: list[tuple[OpenSession, str, float]] = field(default_factory=list)
    """Sessions ended by the healer in this scenario, for which slot, and when (monotonic)."""
    rivals: list[OpenSession] = field(default_factory=list)
    """Sessions that held the slot as well when one was ended."""

    def before(self, slot_name: str) -> oracle.Observation:
        return oracle.observe(self.server, slot_name)

    def acted(self, pid: int, slot_name: str, before: oracle.Observation, after: oracle.Observation) -> None:
        """Judge the end of a session between two observations."""
        assert self.scene is not None
        now = time.monotonic()
        self.acts[self.scenario] += 1
        session = next((session for session in self.scene.sessions if session.pid == pid), None)
        if session is None:
            self.mistake(judge.NOT_ALLOWED, f"pid {pid} is none of the scenario's sessions")
            return
        self.ended.append((session, slot_name, now))
        session.ended_at = now
        if before.restart is not None and before.confirmed is not None:
            self._judge_retention(session, before, after)
        else:
            self._judge_creation(session)
        self._judge_rules(session, now)

    def _judge_retention(self, session: OpenSession, before: oracle.Observation, after: oracle.Observation) -> None:
        assert before.restart is not None
        records = self.records(before.restart, before.confirmed or before.restart)
        held_by = oracle.holders(records, before.restart)
        if session.xid not in held_by:
            moved = "" if before.restart == after.restart else " (it moved in that moment)"
            names = [f"{other.owner[0]}, {other.kind}" for other in self.scene.sessions if other.xid in held_by]  # type: ignore[union-attr]
            open_holders = held_by & before.open_xids
            detail = f"{session.owner[0]}, {session.kind}; held by {open_holders or 'nobody'} of {names}{moved}"
            self.mistake(judge.NOT_THE_HOLDER, detail)
        elif why := oracle.unproven(records, before, session.xid, session.since):
            self.mistake(judge.UNPROVEN, f"{session.owner[0]}, {session.kind}: {why}")
        self.rivals = [
            other
            for other in self.scene.sessions  # type: ignore[union-attr]
            if other is not session and other.xid in held_by & before.open_xids
        ]

    def _judge_creation(self, session: OpenSession) -> None:
        assert self.scene is not None
        server = self.standby if self.scenario == "creation_on_standby" else self.server
        limit = oracle.awaited_by_creation(server.process.log.read_text("utf-8", "replace"))
        if limit is None or not (limit - session.xid) % 2**32 < 2**31 or limit == session.xid:
            detail = f"{session.owner[0]}, {session.kind} xid={session.xid}; it waits for those older than {limit}"
            self.mistake(judge.NOT_THE_HOLDER, detail)

    def _judge_rules(self, session: OpenSession, now: float) -> None:
        user, application, database = session.owner
        broken = []
        if (user, application) != ALLOWED[:2] or database not in (REAL_POLICY.databases or ()):
            broken.append(f"{user}, {application}, {database}")
        if session.idle_since is None:
            broken.append("a statement runs, or it is prepared")
        elif now - session.idle_since < REAL_POLICY.idle_in_transaction_for:
            broken.append(f"idle for {now - session.idle_since:.1f} s only")
        for why in broken:
            self.mistake(judge.NOT_ALLOWED, why)

    def claims(self, slot_name: str, results: Sequence[dict[str, Any]]) -> None:
        """Judge the outcomes of the scenario's slot; the newest comes first."""
        if not self.ended:
            newest = results[0] if results else {"outcome": "no outcome", "why": ""}
            why = newest["why"].partition(":")[0] if newest["outcome"] == Outcome.REFUSED else ""
            self.without_act[" ".join(filter(None, (self.scenario, newest["outcome"], why)))] += 1
        for result in results:
            self.outcomes[result["outcome"]] += 1
            if result["outcome"] != "healed":
                continue
            mine = [entry for entry in self.ended if entry[1] == slot_name]
            if not mine:
                self.mistake(judge.FALSE_HEALED, "nothing was ended for it")
            others = [other for other in self.rivals if other not in [entry[0] for entry in self.ended]]
            if others:
                self.mistake(judge.FALSE_HEALED, f"{len(others)} more held it, and ended by themselves")

    def mistake(self, what: str, detail: str) -> None:
        self.mistakes[what] += 1
        self.details.append(f"{self.scenario}: {what}: {detail}")

    def records(self, start: int, end: int) -> list[WalRecord]:
        [(file,)] = self.server.sql("SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn())")
        return list(records_between(start, end, self.server.data_folder / "pg_wal", int(file[:8], 16)))


@contextmanager
def judged(judges: ServerJudge) -> Iterator[None]:
    """Observe the server before and after every act of a healer in this process."""
    fetch = Session.fetch

    async def fetch_and_judge(
        session: Session, queries: Sequence[SessionQuery], timeout: float, *, bare: bool = False
    ) -> list[list[Any]]:
        acts = [query for query in queries if isinstance(query, Statement) and query.sql == ACT]
        if not acts or "true" not in acts[0].parameters:
            return await fetch(session, queries, timeout, bare=bare)
        slot_name = acts[0].parameters[12]
        before = judges.before(slot_name)
        rows = await fetch(session, queries, timeout, bare=bare)
        [[row]] = rows
        if row.ended:
            judges.acted(row.pid, slot_name, before, judges.before(slot_name))
        return rows

    with mock.patch.object(Session, "fetch", fetch_and_judge):
        yield


async def run_scenarios(stack: Stack, acts: int, seed: int, deadline: float) -> ServerJudge:
    """Run scenarios until the healer has ended this many sessions, or until the deadline (monotonic)."""
    judges = ServerJudge(stack.primary, stack.standby)
    chance = random.Random(seed)
    set_up_roles(stack.primary)
    stack.primary.sql(SET_UP)
    stack.primary.sql("CREATE DATABASE shop")
    with judged(judges):
        async with healing(cluster_with_termination(stack, REAL_POLICY), settings=SETTINGS) as healer:
            while sum(judges.acts.values()) < acts and time.monotonic() < deadline:
                judges.scenarios += 1
                await run_scenario(stack, judges, healer, chance, judges.scenarios)
            counts = [
                await healer.value("pgslot_heal_calls_total", cluster="c", remedy="end_transaction", result=result)
                for result in ("ended", "in_doubt")
            ]
            for guard in Refusal:
                count = await healer.value(
                    "pgslot_heal_refusals_total", cluster="c", remedy="end_transaction", guard=guard
                )
                judges.refusals[str(guard)] = int(count or 0)
    untold = sum(judges.acts.values()) - int(sum(count or 0 for count in counts))
    if untold:
        judges.mistakes[judge.UNTOLD] += abs(untold)
    return judges


async def run_scenario(stack: Stack, judges: ServerJudge, healer: Healer, chance: random.Random, number: int) -> None:
    """Run one scenario to its end."""
    on_standby = stack.major >= 16
    kinds = ["held"] * 6 + ["creation_on_primary"] * 2 + ["creation_on_standby"] * on_standby
    if chance.choice(kinds) == "held":
        begin = chance.choices(list(HELD), list(HELD.values()))[0]
        await run_held(stack, judges, healer, chance, f"kept{number}", begin)
    else:
        await _creation(stack, judges, healer, chance, f"made{number}")


async def run_held(  # noqa: PLR0917
    stack: Stack,
    judges: ServerJudge,
    healer: Healer,
    chance: random.Random,
    name: str,
    begin: Callable[[Scene], None],
) -> None:
    """Run a scenario of an existing slot of this name."""
    scene = _begin(stack, judges, chance, name, begin.__name__)
    try:
        scene.start_slot(status_interval=chance.choice((1, 1, 5)))
        begin(scene)
        await scene.write()
        await healer.post(endangered_alert(name))
        await _watch(stack, judges, healer, name, node="primary")
    finally:
        await scene.close()
        await asyncio.to_thread(stack.primary.drop_slot, name)


async def _creation(stack: Stack, judges: ServerJudge, healer: Healer, chance: random.Random, name: str) -> None:
    on_standby = stack.major >= 16 and chance.random() < 0.4
    scene = _begin(stack, judges, chance, name, "creation_on_standby" if on_standby else "creation_on_primary")
    server, node = (stack.standby, "standby") if on_standby else (stack.primary, "primary")
    try:
        for _ in range(chance.choice((0, 0, 1, 2))):
            session = scene.any_session()
            scene.later(chance.uniform(2, 60), lambda session=session: scene.end(session))  # type: ignore[misc]
        scene.open(kind=chance.choice(("table", "xid only", "temporary")))
        creator: ServerStatement = server.create_slot(name)
        with creator:
            await healer.post(endangered_alert(name, node=node))
            await _watch(stack, judges, healer, name, node=node, creator=creator)
    finally:
        await scene.close()
        await asyncio.to_thread(server.drop_slot, name)


def _begin(stack: Stack, judges: ServerJudge, chance: random.Random, name: str, kind: str) -> Scene:
    scene = Scene(stack.primary, chance, name)
    judges.scenario, judges.scene, judges.ended, judges.rivals = kind, scene, [], []
    return scene


async def _watch(
    stack: Stack,
    judges: ServerJudge,
    healer: Healer,
    name: str,
    *,
    node: str,
    creator: ServerStatement | None = None,
) -> None:
    """Wait until the slot is free or nothing more will happen; then withdraw the alert, and judge the outcomes."""
    scene = judges.scene
    assert scene is not None
    start = time.monotonic()
    quiet_since: float | None = None
    scene.tasks.append(asyncio.create_task(scene.keep_writing()))
    while time.monotonic() - max([start, *(at for _, _, at in judges.ended)]) < SCENARIO_SECONDS:
        await asyncio.sleep(1.0)
        if int(time.monotonic() - start) % REPEAT_SECONDS == 0:
            await healer.post(endangered_alert(name, node=node))
        if creator is None:
            now = await asyncio.to_thread(oracle.observe, stack.primary, name)
            passed = max(session.since for session in scene.sessions)
            free = now.restart is not None and now.restart > passed
        else:
            free = creator.done
            if node == "standby" and not free:
                # As the other remedy would; its alert is not part of this.
                await asyncio.to_thread(stack.primary.sql, "SELECT pg_catalog.pg_log_standby_snapshot()")
        quiet = free or await _is_settled(healer, scene, name)
        quiet_since = (quiet_since or time.monotonic()) if quiet else None
        if quiet_since is not None and time.monotonic() - quiet_since > AFTER_SECONDS:
            break
    await healer.post(endangered_alert(name, node=node, firing=False))
    withdrawn = time.monotonic()
    while not _all_over(episodes := await healer.episodes()):
        if time.monotonic() - withdrawn > OUTCOME_SECONDS:
            break
        await asyncio.sleep(0.5)
    judges.claims(name, _results(episodes, name))


async def _is_settled(healer: Healer, scene: Scene, name: str) -> bool:
    """Return whether the healer has refused to act for the slot, and the scenario has no more events."""
    episodes = await healer.episodes()
    newest = next(iter(_results(episodes, name)), None)
    refused = newest is not None and newest["outcome"] == Outcome.REFUSED
    return refused and _all_over(episodes) and all(event.done() for event in scene.events)


def _all_over(episodes: Sequence[dict[str, Any]]) -> bool:
    return all(episode["outcome"] for episode in episodes)


def _results(episodes: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return the slot's outcomes, the newest first."""
    return [result for episode in episodes for result in episode["slots"] if result["slot_name"] == name]

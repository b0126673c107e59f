"""A third remedy is one subclass of Remedy and one line in the registry: here is one, on a real server."""

# ruff: noqa: ARG002 - its rules need little of what they are given

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from unittest import mock

import pytest

from healer.remedies.attempt import Act, Attempt, AttemptResult, Capability, LogEntry, Unavailable, Wait
from healer.remedies.base import BudgetLimit, EpisodeProgress, Remedy
from healer.remedies.connection import PRIMARY_TIMEOUT, AnyConnection, PrimaryConnection
from healer.remedies.progress import Outcome, SlotProgress
from healer.remedies.registry import REMEDIES
from healer.remedies.slot_state import SlotCondition, SlotState
from healer.webhook.payload import Action, Alert
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerConfig, HealerSettings, Node
from pgslot.postgres.session import SessionQuery
from tests.support.builders.episodes import RecordedManager
from tests.support.running_healer import healer_config, until
from tests.support.servers.stack import HEALER_ROLE, Stack

NAME = "write_message"


@dataclass(frozen=True, slots=True)
class Recovery:
    in_recovery: bool


@dataclass(frozen=True, slots=True)
class Written:
    lsn: str


@dataclass(frozen=True, slots=True)
class MessageAttempt(Attempt):
    """An attempt with a fact of its own."""

    lsn: str | None = None

    @property
    def returned_lsn(self) -> str | None:
        return self.lsn


class MessageConnection(PrimaryConnection[Act, MessageAttempt]):
    facts: ClassVar[SessionQuery] = ("SELECT pg_catalog.pg_is_in_recovery() AS in_recovery", Recovery)

    @staticmethod
    def judge(facts: Recovery) -> Capability:
        return Capability(Unavailable.NO_PRIMARY if facts.in_recovery else None)

    async def _act(self, step: Act) -> MessageAttempt:
        assert self.session is not None
        statement = "SELECT pg_catalog.pg_logical_emit_message(false, 'third', 'remedy')::pg_catalog.text AS lsn"
        [[row]] = await self.session.fetch([(statement, Written)], PRIMARY_TIMEOUT)
        return MessageAttempt(AttemptResult.OK, lsn=row.lsn, capability=self.capability)

    def _not_made(self, result: AttemptResult, capability: Capability | None, error: str) -> MessageAttempt:
        return MessageAttempt(result, capability=capability, error=error)


class WriteMessage(Remedy[SlotProgress, Act, MessageAttempt]):
    """Writes one message per slot, after which the slot counts as healed."""

    name: ClassVar[str] = NAME
    connection: ClassVar[type[AnyConnection]] = MessageConnection
    spending: ClassVar[frozenset[AttemptResult]] = frozenset({AttemptResult.OK})
    plan: ClassVar[str] = "a message"
    not_now: ClassVar[str] = "one message is enough"
    cannot_help: ClassVar[str] = "no message helps"

    def target(self, cluster: Cluster) -> HealerConfig | None:
        return cluster.healer

    def budget_limit(self, target: HealerConfig, settings: HealerSettings) -> BudgetLimit:
        return BudgetLimit(5, 5)

    def begin(self, since: float = 0.0) -> SlotProgress:
        return SlotProgress(since=since, now=since)

    def apply_observation(self, progress: SlotProgress, state: SlotState, now: float) -> SlotProgress:
        progress = replace(progress, state=state, now=now)
        well = progress.open and progress.calls and state.condition is SlotCondition.USABLE
        return progress.end(Outcome.HEALED, "a message was written") if well else progress

    def apply_attempt(self, progress: SlotProgress, attempt: MessageAttempt, now: float) -> SlotProgress:
        return replace(progress, calls=progress.calls + attempt.acted, first_call=now) if progress.open else progress

    def apply_timeouts(
        self, progress: SlotProgress, episode: EpisodeProgress, settings: HealerSettings
    ) -> SlotProgress:
        return progress

    def should_reopen(self, progress: SlotProgress, state: SlotState) -> bool:
        return False

    def wants_attempt(self, progress: SlotProgress) -> bool:
        return progress.open and not progress.calls

    def next_step(
        self, open_slots: Collection[SlotProgress], episode: EpisodeProgress, settings: HealerSettings
    ) -> Act | Wait:
        return Act(1.0) if any(map(self.wants_attempt, open_slots)) else Wait(0.1)

    def describe(self, attempt: MessageAttempt) -> LogEntry:
        return LogEntry(f"wrote a message, {attempt.lsn} returned", "wrote a message", attempt.acted)


@pytest.fixture
def registered() -> Iterator[None]:
    """Add its line to the registry."""
    remedy = WriteMessage()
    with mock.patch.dict(REMEDIES, {remedy.name: remedy}):
        yield


def config_of(stack: Stack) -> Config:
    primary = stack.primary
    nodes = (Node("c", "primary", Conninfo(primary.conninfo("pgslot_exporter"))),)
    return Config((Cluster("c", nodes, healer_config(primary.conninfo(HEALER_ROLE))),), HealerSettings())


@pytest.mark.usefixtures("registered")
async def test_registered_remedy_is_checked_acts_and_is_reported(databases: Stack) -> None:
    config = config_of(databases)
    recorded = RecordedManager(config)
    manager, monitor = recorded.manager, recorded.monitor

    def value(name: str, **labels: str) -> float | None:
        return recorded.value(name, {"cluster": "c", "remedy": NAME, **labels})

    databases.primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('third', 'pgoutput')")
    monitor.watch(config.clusters)
    try:
        labels: dict[str, Any] = {"heal": NAME, "cluster": "c", "node": "primary", "slot_name": "third"}
        assert manager.submit(Alert(True, labels, "f")) is Action.STARTED
        await until(lambda: value("pgslot_heal_episodes_total", outcome="healed"), "its slot is healed")
        await until(
            lambda: value("pgslot_heal_capability_unavailable", reason="no_primary") == 0, "its capability is known"
        )
    finally:
        await manager.close()
        await monitor.close()
        databases.drop_slot("third")
    [report] = manager.reports
    assert (report.remedy, report.outcome, report.calls, len(report.lsns)) == (NAME, Outcome.HEALED, 1, 1)
    assert any(line.text.startswith("wrote a message, ") for line in report.timeline)
    assert value("pgslot_heal_calls_total", result="ok") == 1
    assert value("pgslot_heal_calls_remaining", budget="hour") == 4


def test_every_remedy_says_what_people_read() -> None:
    for name, remedy in REMEDIES.items():
        assert remedy.name == name
        for text in (remedy.plan, remedy.not_now, remedy.cannot_help):
            assert text

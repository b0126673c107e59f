"""
The incident that this project began with, on real servers, and everything that was observed of it.

A forgotten transaction pins a slot until it is lost; the slot that replaces it waits for the same transaction. The
healer is not allowed to end transactions, as is the default: a person does, following the alert.
"""

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.support.incidents import MEBIBYTE, Incidents, limit_retained_wal
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import PRIMARY_NODE, Stack
from tests.support.servers.workload import confirmed_all, steady_writes, streaming_consumer

THRESHOLDS = {
    "PgSlotPinnedByTransaction": "5",
    "PgSlotWalHeadroomLow": "1s/5s",
    "PgSlotLossPredicted": "1s",
    "PgSlotCreationBlocked": "5",
}
"""Instead of 15 minutes of a transaction's age, 5 minutes, 1 minute, and 60 s of waiting."""

KEEP_MIB = 512
WRITTEN_MIB = 4
"""WAL per write, about twice a second."""
APPLICATION = "nightly-export"
LOST, MADE = "orders", "orders_again"


@dataclass(frozen=True)
class Observation:
    """An event, or a message of a program."""

    at: float
    """Unix time."""
    source: str
    text: str


@dataclass
class Story:
    """All observations in order, and the details that the test and the page need."""

    began: float
    observations: list[Observation] = field(default_factory=list)
    at: dict[str, float] = field(default_factory=dict)
    """The Unix time of each named observation, alerts among them."""
    holder: int = 0
    """The pid of the transaction's session."""
    blocker_labels: dict[str, str] = field(default_factory=dict)
    """The labels by which the exporter named the blocker of the new slot's creation."""
    descriptions: dict[str, str] = field(default_factory=dict)
    """The description of each alert, by its name."""
    heal: dict[str, Any] = field(default_factory=dict)
    """The healer's episode about the new slot."""
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Samples that Prometheus has stored, by the name of their quantity."""

    def record(self, source: str, text: str, name: str | None = None) -> None:
        now = time.time()
        self.observations.append(Observation(now, source, text))
        if name is not None:
            self.at[name] = now


def run_incident(stack: Stack) -> Story:
    """Start the whole stack and run the incident on it; it takes two minutes."""
    stack.start_databases()
    stack.start_exporter()
    stack.start_healer()
    stack.start_monitoring()
    primary = stack.primary
    limit_retained_wal(primary, f"{KEEP_MIB}MB")
    story, alerts = Story(time.time()), Incidents(stack)
    with ExitStack() as transaction:
        holder = transaction.enter_context(closing(psycopg.connect(primary.conninfo(), application_name=APPLICATION)))
        with streaming_consumer(primary, LOST, stack.folder):
            story.record("consumer", f"streams from slot {LOST}, confirms each second")
            with steady_writes(primary, WRITTEN_MIB, MEBIBYTE):
                wait_for(lambda: _is_retained(stack, LOST), "the exporter shows the slot")
                for _ in range(2):
                    wait_for(confirmed_all(primary, LOST), "the consumer confirms what is written")
                holder.execute("SELECT pg_catalog.pg_logical_emit_message(true, 'export', 'begins')")
                story.holder = holder.info.backend_pid
                story.record(
                    "application",
                    f"BEGIN; it writes, and forgets to commit (pid {story.holder}, {APPLICATION})",
                    "begin",
                )
                _wait_until_lost(stack, story, alerts)
        story.record("people", f"make another slot for the consumer, {MADE}")
        with primary.create_slot(MADE) as creator:
            _wait_until_blocker_named(stack, story, alerts)
            pid = int(story.blocker_labels["pid"])
            story.record(
                "people", f"SELECT pg_terminate_backend({pid}), as the runbook of PgSlotCreationBlocked has it", "ended"
            )
            primary.sql("SELECT pg_catalog.pg_terminate_backend(%s)", [pid])
            assert creator.wait(30)
            assert creator.error is None
            story.record("PostgreSQL", f"slot {MADE} is made", "made")
        story.heal = wait_for(lambda: _ended_episode(stack, MADE), "the healer has its verdict", timeout=90)
        story.record("healer", f"{story.heal['outcome']}, {story.heal['calls']} calls: {story.heal['why']}")
        for name in ("PgSlotCreationBlocked", "PgSlotLost", "PgSlotPinnedByTransaction"):
            alerts.ends(name, timeout=90)
        story.record("Prometheus", "no alert fires any more", "over")
        add_series(stack, story)
    primary.drop_slot(MADE)
    return story


def _wait_until_lost(stack: Stack, story: Story, alerts: Incidents) -> None:
    for name in ("PgSlotPinnedByTransaction", "PgSlotWalHeadroomLow", "PgSlotLossPredicted"):
        alerts.fires(name, LOST, timeout=180)
        _record_alert(story, alerts, name, LOST)
    wait_for(lambda: (_safe_wal_size(stack.primary) or 0) < 0, "nothing is left", timeout=180)
    stack.primary.sql("CHECKPOINT")
    story.record(
        "PostgreSQL", f"a checkpoint removes WAL that slot {LOST} needs: it is lost, its consumer is cut off", "lost"
    )
    alerts.fires("PgSlotLost", LOST)
    _record_alert(story, alerts, "PgSlotLost", LOST)


def _wait_until_blocker_named(stack: Stack, story: Story, alerts: Incidents) -> None:
    [blocker] = wait_for(
        lambda: stack.exporter.samples("pgslot_creation_blocker_age_seconds", slot_name=MADE), "the blocker is named"
    )
    story.blocker_labels = blocker.labels
    labels = ", ".join(f"{name}={blocker.labels[name]}" for name in ("pid", "usename", "application_name", "state"))
    story.record("exporter", f"slot {MADE} waits for a transaction of {blocker.value:.0f} s: {labels}", "named")
    alerts.fires("PgSlotCreationBlocked", MADE)
    _record_alert(story, alerts, "PgSlotCreationBlocked", MADE)
    wait_for(lambda: _episode(stack, MADE), "the healer looks at it")
    story.record(
        "healer",
        "waits with it and calls nothing: on a primary the server logs its own record when the transaction ends",
    )


def _record_alert(story: Story, alerts: Incidents, name: str, slot: str) -> None:
    text = " ".join(alerts.fired[name, slot]["annotations"]["description"].split())
    story.descriptions[name] = text
    story.record("Prometheus", f"{name}: {text}", name)


def _safe_wal_size(primary: Postgres) -> int | None:
    rows = primary.sql("SELECT safe_wal_size FROM pg_catalog.pg_replication_slots WHERE slot_name = %s", [LOST])
    return None if not rows else rows[0][0]


def _is_retained(stack: Stack, slot: str) -> bool:
    return stack.exporter.value("pgslot_retained_wal_bytes", slot_name=slot) is not None


def _episode(stack: Stack, slot: str) -> dict[str, Any] | None:
    for episode in stack.healer.get_json("/episodes"):
        if slot in [subject["slot_name"] for subject in episode["subjects"]]:
            return dict(episode)
    return None


def _ended_episode(stack: Stack, slot: str) -> dict[str, Any] | None:
    episode = _episode(stack, slot)
    return episode if episode is not None and episode["outcome"] is not None else None


def add_series(stack: Stack, story: Story) -> None:
    """Add the samples that Prometheus has stored."""
    on_primary = f'node="{PRIMARY_NODE}"'
    queries = {
        "retained": f'max(pgslot_retained_wal_bytes{{{on_primary},slot_name="{LOST}"}})',
        "left": f'max(slot:pgslot_safe_wal_size_bytes:min{{{on_primary},slot_name="{LOST}"}})',
        "waits": f'max(pgslot_creation_wait_seconds{{{on_primary},slot_name="{MADE}"}})',
        "transaction": f'max(pgslot_oldest_transaction_age_seconds{{{on_primary},kind="xid"}})',
    }
    for name, expression in queries.items():
        result = stack.prometheus.query_range(expression, story.began, story.at["over"], 1.0)
        values = result[0]["values"] if result else []
        story.series[name] = [(float(at), float(value)) for at, value in values]

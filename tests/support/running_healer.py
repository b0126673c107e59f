"""A healer on the shared databases, in our own process or in one of its own, and the alerts that it receives."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from healer.app import application
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerConfig, HealerSettings, Node
from pgslot.config.reload import ConfigReloader
from pgslot.diagnosis import pinning, retention
from pgslot.snapshot import history
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import MAX_POLL_SECONDS, free_port, wait_for
from tests.support.servers.stack import EXPORTER_ROLE, HEALER_ROLE, Stack

Client = TestClient[Any, Any]

QUICK = HealerSettings(burst_interval=0.2, interval=1.0)


def to_primary(*servers: Postgres, role: str = HEALER_ROLE, **more: str) -> str:
    """Return a conninfo that lists these servers and connects to the primary among them."""
    ports = ",".join(str(server.port) for server in servers)
    hosts = ",".join("127.0.0.1" for _ in servers)
    extra = "".join(f" {name}={value}" for name, value in more.items())
    return f"host={hosts} port={ports} target_session_attrs=read-write dbname=postgres user={role}{extra}"


def healer_config(conninfo: str, **fields: Any) -> HealerConfig:
    """Return how a healer connects to a cluster: enabled and not in a dry run, unless `fields` say otherwise."""
    return replace(HealerConfig(Conninfo(conninfo), enabled=True, dry_run=False), **fields)


def watched(stack: Stack, name: str = "c", conninfo: str | None = None, **fields: Any) -> Cluster:
    """Return a cluster of the stack's primary and standby; `fields` of HealerConfig."""
    servers = (stack.standby, stack.primary)
    nodes = tuple(Node(name, server.name, Conninfo(server.conninfo(EXPORTER_ROLE))) for server in servers)
    return Cluster(name, nodes, healer_config(conninfo or to_primary(*servers), **fields))


class Healer:
    """The application in our own process, accessed over HTTP."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def post(self, *alerts: dict[str, Any]) -> tuple[int, str]:
        body = {"version": "4", "status": "firing", "alerts": list(alerts)}
        answer = await self.client.post("/alerts", json=body)
        return answer.status, (await answer.text()).strip()

    async def episodes(self) -> list[dict[str, Any]]:
        return list(await (await self.client.get("/episodes")).json())

    async def metrics(self) -> str:
        return str(await (await self.client.get("/metrics")).text())

    async def until(self, what: str, condition: Callable[[list[dict[str, Any]]], object], seconds: float = 40) -> Any:
        """Poll the episodes until the condition returns something true, and return that."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                while not (result := condition(await self.episodes())):  # noqa: ASYNC110 - it is behind a socket
                    await asyncio.sleep(min(0.02 + (time.monotonic() - began) / 20, MAX_POLL_SECONDS))
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s: {what}; {await self.episodes()}") from None
        return result

    async def ended(self, seconds: float = 40) -> dict[str, Any]:
        """Wait until no episode runs; return the newest."""

        def newest(episodes: list[dict[str, Any]]) -> dict[str, Any] | None:
            return episodes[0] if episodes and all(episode["outcome"] for episode in episodes) else None

        episode: dict[str, Any] = await self.until("all episodes have ended", newest, seconds)
        return episode

    async def value(self, name: str, **labels: str) -> float | None:
        """
        Return the value of the series with exactly these labels; None: there is none.

        Where series have a label `remedy`, it is `log_standby_snapshot` unless given.
        """
        for family in text_string_to_metric_families(await self.metrics()):
            for sample in family.samples:
                wanted = {"remedy": "log_standby_snapshot"} | labels if "remedy" in sample.labels else labels
                if sample.name == name and sample.labels == wanted:
                    return float(sample.value)
        return None


@asynccontextmanager
async def healing(*clusters: Cluster, settings: HealerSettings = QUICK) -> AsyncIterator[Healer]:
    """Run the application; assert at its end that it leaves no task behind."""
    config = Config(clusters, settings)
    before = asyncio.all_tasks()
    async with TestClient(TestServer(application(ConfigReloader(lambda: config, config)))) as client:
        yield Healer(client)
    left = {task for task in asyncio.all_tasks() - before - {asyncio.current_task()} if not task.done()}
    assert not left, f"the healer left tasks behind: {left}"


PATIENCE = 2.0
"""Seconds, instead of the half minute within which a server is sure to have logged a record."""


@contextmanager
def impatient() -> Iterator[None]:
    """
    Let the diagnosis of retention consider a record missing after seconds.

    Only within no_records_by_itself(): there a record that has not come within seconds will not come.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (history, pinning, retention):
            patch.setattr(module, "record_seconds", lambda _: PATIENCE)
        yield


def alert(slot: str, *, node: str = "standby", cluster: str = "c", firing: bool = True, **more: Any) -> dict[str, Any]:
    """Return an alert as Alertmanager sends it; its fingerprint is that of its labels."""
    labels = {"alertname": "PgSlotCreationStuck", "heal": "log_standby_snapshot", "cluster": cluster}
    labels |= {"node": node, "slot_name": slot}
    return {
        "status": "firing" if firing else "resolved",
        "labels": labels,
        "annotations": {},
        "startsAt": "2026-11-23T10:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": f"{cluster}/{node}/{slot}",
    } | more


async def until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    """Wait for a condition that blocks, in a thread."""
    await asyncio.to_thread(wait_for, lambda: condition() or None, what, seconds)


def has_called(episodes: list[dict[str, Any]]) -> bool:
    """Return whether the newest episode has made a call."""
    return bool(episodes and episodes[0]["calls"])


def usable(server: Postgres, slot: str) -> bool:
    rows = server.sql("SELECT confirmed_flush_lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = %s", [slot])
    return bool(rows) and rows[0][0] is not None


def nothing_left_behind(*servers: Postgres) -> bool:
    """Return whether no session of a healer and no advisory lock exists."""
    return not any(left_behind(server) for server in servers)


def left_behind(server: Postgres) -> list[tuple[Any, ...]]:
    """Return the healers' sessions and all advisory locks."""
    return server.sql(
        "SELECT pid, usename, state, backend_start, query FROM pg_catalog.pg_stat_activity"
        " WHERE application_name LIKE 'pg_slot_healer%'"
        " UNION ALL SELECT pid, locktype, mode, NULL, '' FROM pg_catalog.pg_locks WHERE locktype = 'advisory'"
    )


def write_healer_config(file: Path, stack: Stack, switch: dict[str, Any] | None = None, **healer: Any) -> None:
    """Write a configuration with the cluster c; `switch`: keys of the section healer, `healer`: of the cluster's."""
    target = {"conninfo": stack.primary.conninfo(HEALER_ROLE)} | healer
    nodes = {server.name: {"conninfo": server.conninfo(EXPORTER_ROLE)} for server in (stack.primary, stack.standby)}
    # An Alertmanager that is not there must not keep the healer from anything.
    settings = {"alertmanager_url": f"http://127.0.0.1:{free_port()}"} | (switch or {})
    file.write_text(yaml.safe_dump({"clusters": {"c": {"nodes": nodes, "healer": target}}, "healer": settings}))

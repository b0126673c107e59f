"""What happens to the programs: scrapes of every kind, webhooks good and bad, reloads, resets, slots in creation."""

import asyncio
import contextlib
import gzip
import itertools
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import yaml

from tests.support.running_healer import to_primary
from tests.support.servers.stack import EXPORTER_ROLE, Stack

TOKEN = "token-of-the-soak"
OPEN_METRICS = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}
VARIANTS = 7


class Traffic:
    """All traffic of a run; `counts` has how often what came of it."""

    def __init__(self, stack: Stack, folder: Path, exporter: str, healer: str, seed: int) -> None:
        self._stack = stack
        self._exporter, self._healer = exporter, healer
        self._random = random.Random(seed)
        self._config = folder / "pgslot.yml"
        self._token = folder / "token"
        self._token.write_text(TOKEN, "utf-8")
        self.counts: Counter[str] = Counter()
        self.write_config(0)

    @property
    def config(self) -> Path:
        return self._config

    def write_config(self, variant: int) -> None:
        """Write the configuration: as usual, or with other nodes or clusters, switched off, broken, or torn."""
        servers = [self._stack.primary, self._stack.standby]
        nodes = {server.name: {"conninfo": server.conninfo(EXPORTER_ROLE)} for server in servers}
        healer = {"conninfo": to_primary(*servers), "enabled": variant != 4}
        clusters: dict[str, Any] = {"main": {"nodes": nodes, "healer": healer}}
        if variant == 1:
            del nodes["standby"]
        if variant == 2:
            nodes["ghost"] = {"conninfo": "host=127.0.0.1 port=1 user=x"}
        if variant == 3:
            for _ in range(3):
                more = {"conninfo": self._stack.primary.conninfo(EXPORTER_ROLE)}
                clusters[f"more{self._random.randrange(40)}"] = {"nodes": {"a": more}}
        settings = {"webhook_token_file": str(self._token), "interval": "2s", "give_up_after": "20s"}
        text = yaml.safe_dump({"clusters": clusters, "healer": settings | {"calls_per_hour": 100_000}})
        text = {5: "clusters: [broken\n" + text, 6: text[:120]}.get(variant, text)
        written = self._config.with_suffix(".new")
        written.write_text(text, "utf-8")
        written.replace(self._config)

    async def run(self, seconds: float, signal_reload: Callable[[], None]) -> None:
        """Run everything at once for this time; `signal_reload` sends SIGHUP to both programs."""
        timeout = aiohttp.ClientTimeout(total=15)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            exporter, healer = self._exporter, self._healer
            jobs = [
                self._get(session, exporter, ["/metrics"], 0.2),
                self._get(session, exporter, ["/metrics"], 0.2, OPEN_METRICS),
                self._get(session, exporter, ["/metrics"], 0.3, {"X-Prometheus-Scrape-Timeout-Seconds": "0.6"}),
                self._get(session, exporter, ["/metrics?collect[]=creations"], 0.2, OPEN_METRICS),
                self._get(session, exporter, [f"/probe?cluster=main&node={n}" for n in ("primary", "standby")], 0.2),
                self._get(session, exporter, ["/sd", "/", "/runbooks/PgSlotLost", "/-/healthy", "/-/ready"], 0.3),
                self._get(session, healer, ["/metrics", "/", "/episodes", "/-/healthy", "/-/ready"], 0.1),
                self._get_on_new_connections(exporter),
                self._webhooks(session),
                self._reloads(session, signal_reload),
                self._resets(),
                self._terminations(),
                self._creations(),
            ]
            tasks = [asyncio.create_task(job) for job in jobs]
            done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for task in done:
                # None of them ends by itself.
                task.result()
        self.write_config(0)
        signal_reload()

    async def _get(
        self,
        session: aiohttp.ClientSession,
        base: str,
        paths: list[str],
        period: float,
        headers: dict[str, str] | None = None,
    ) -> None:
        for path in itertools.cycle(paths):
            async with session.get(base + path, headers=headers) as answer:
                await answer.read()
                self.counts[f"GET {path.partition('?')[0]}: {answer.status}"] += 1
            await asyncio.sleep(period)

    async def _get_on_new_connections(self, base: str) -> None:
        while True:
            async with aiohttp.ClientSession() as session, session.get(base + "/metrics") as answer:
                await answer.read()
                self.counts[f"GET /metrics: {answer.status}"] += 1
            await asyncio.sleep(0.2)

    async def _webhooks(self, session: aiohttp.ClientSession) -> None:
        while True:
            alerts = [self._alert() for _ in range(self._random.randrange(1, 30))]
            body = json.dumps({"version": "4", "receiver": f"r{self._random.randrange(60)}", "alerts": alerts}).encode()
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            kind = self._random.random()
            if kind < 0.05:
                body = body[: len(body) // 2]
            elif kind < 0.1:
                headers["Authorization"] = "Bearer a-guess"
            elif kind < 0.15:
                body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
            async with session.post(f"{self._healer}/alerts", data=body, headers=headers) as answer:
                await answer.read()
                self.counts[f"webhook: {answer.status}"] += 1
            await asyncio.sleep(0.25)

    def _alert(self) -> dict[str, Any]:
        labels = {
            "alertname": self._random.choice(["PgSlotStalled", "PgSlotCreationWaiting"]),
            "cluster": self._random.choice(["main", "main", "main", "unknown"]),
            "node": self._random.choice(["primary", "standby", "unknown"]),
            "slot_name": f"slot{self._random.randrange(10)}",
            "heal": "log_standby_snapshot",
        }
        status = "firing" if self._random.random() < 0.6 else "resolved"
        fingerprint = f"{self._random.randrange(10**12):x}"
        return {"status": status, "labels": labels, "fingerprint": fingerprint, "annotations": {}}

    async def _reloads(self, session: aiohttp.ClientSession, signal_reload: Callable[[], None]) -> None:
        for number in itertools.count():
            self.write_config(number % VARIANTS)
            signal_reload()
            await asyncio.sleep(1)
            broken = number * 3 % VARIANTS in (5, 6)
            self.write_config(number * 3 % VARIANTS)
            for url in (self._exporter, self._healer):
                async with session.post(f"{url}/-/reload") as answer:
                    self.counts[f"reload of a {'broken' if broken else 'good'} file: {answer.status}"] += 1
            await asyncio.sleep(1)

    async def _resets(self) -> None:
        head = f"POST /alerts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 5000\r\n\r\n"
        requests = (b"GET /metrics HT", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", head.encode() + b'{"ver')
        malformed = b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
        while True:
            for url, request in itertools.product((self._exporter, self._healer), (*requests, malformed)):
                await asyncio.to_thread(_reset, int(url.rpartition(":")[2]), request)
                self.counts["reset connections"] += 1
            await asyncio.sleep(0.5)

    async def _terminations(self) -> None:
        """Have the servers end the programs' sessions now and then."""
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'pgslot%'"
        while True:
            await asyncio.sleep(7)
            for server in (self._stack.primary, self._stack.standby):
                self.counts["terminated sessions"] += len(await asyncio.to_thread(server.sql, query))

    async def _creations(self) -> None:
        """Create slots on the standby, which hang until the primary logs a record."""
        conninfo = self._stack.standby.conninfo()
        for number in itertools.count():
            statement = f"SELECT pg_create_logical_replication_slot('slot{number % 10}', 'pgoutput', true)"
            with contextlib.suppress(psycopg.Error, TimeoutError):
                async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
                    await asyncio.wait_for(connection.execute(statement.encode()), 12)
                    self.counts["slots created on the standby"] += 1
            await asyncio.sleep(1)


def _reset(port: int, request: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        opened.sendall(request)

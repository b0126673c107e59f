"""Clocks and counters: kept HTTP connections, alternation, and what the kernel says of a process."""

import http.client
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROMETHEUS = {
    "Accept": "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}
"""The headers of Prometheus 2.42, but for gzip: only the peer compresses, and it would cost it time."""


class Client:
    """One kept connection to a program on loopback."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def get(self, path: str = "/metrics") -> bytes:
        self._connection.request("GET", path, headers=PROMETHEUS)
        return self._answer()

    def post(self, path: str, body: bytes) -> bytes:
        self._connection.request("POST", path, body, {"Content-Type": "application/json"})
        return self._answer()

    def _answer(self) -> bytes:
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"expected 200, found {answer.status}: {body[:500]!r}")
        return body


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def alternate(rounds: int, actions: Mapping[str, Callable[[], list[float]]]) -> dict[str, list[float]]:
    """Run the actions in turn, so that whatever else the machine does meets all of them; return their seconds."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            taken[name] += action()
    return taken


@dataclass(frozen=True)
class Use:
    """What a process has used so far."""

    cpu_seconds: float
    """User and system."""
    resident_bytes: int


def use_of(pid: int) -> Use:
    """Read /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    resident = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return Use(sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK"), resident * os.sysconf("SC_PAGE_SIZE"))

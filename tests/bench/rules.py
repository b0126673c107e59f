"""
The time that Prometheus takes to evaluate the shipped rules for a large fleet: 20 primaries with 10,000 slots.

    python -m tests.bench.rules --in-trouble 0 500 5000

The exporter's own code renders the page, from snapshots made here. A slot in trouble has no consumer, retains more WAL
with every scrape, and has lost most of its headroom; each alert about it fires, with its texts. Durations of `for` are
shortened, so that all alerts fire within the run. Intervals and ranges are the shipped ones.
"""

import argparse
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import requests
import yaml

from exporter.catalogue import CATALOGUE
from exporter.series import cluster_series
from pgslot.exposition.cache import RenderCache
from pgslot.exposition.families import families, render
from pgslot.snapshot.model import ClusterSnapshot
from pgslot.snapshot.rows import Slot
from tests.support.builders.snapshots import FACTS, SLOT, node
from tests.support.paths import ROOT
from tests.support.servers.processes import Process, free_port, wait_for

SLOTS, PRIMARIES = 10_000, 20
GIBIBYTE = 1 << 30
LIMIT_BYTES = 10 * GIBIBYTE
GROWTH_BYTES = 2_000_000
"""Per second, of each slot in trouble."""
LIMITS = {500: 3.0, 5_000: 10.0}
"""Seconds that a group may take for a round, by the number of slots in trouble."""
READY_SECONDS = 120


@dataclass(frozen=True)
class Evaluation:
    """The slowest round after all alerts fired."""

    in_trouble: int
    by_group: dict[str, float]
    """Seconds."""
    missed: int
    """Rounds that Prometheus left out, because the one before had not ended."""
    firing: dict[str, int]
    """Alerts by name."""

    @property
    def seconds(self) -> float:
        """The slowest group: Prometheus evaluates groups side by side, and no group waits for another."""
        return max(self.by_group.values())


class Fleet:
    """The exporter's page for all primaries, as a server on loopback."""

    def __init__(self, in_trouble: int) -> None:
        self._in_trouble, self._began = in_trouble, time.time()
        self._cache = RenderCache()
        fleet = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body, content_type = fleet.page(time.time(), self.headers.get("Accept", ""))
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nobody reads this server's log."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def page(self, now: float, accept: str) -> tuple[bytes, str]:
        """Return the page at this time, and its content type."""
        blocks = [
            block
            for number in range(PRIMARIES)
            for block in cluster_series(self._cluster(number, now), cache=self._cache)
        ]
        return render(accept, families(blocks, CATALOGUE))

    def _cluster(self, number: int, now: float) -> ClusterSnapshot:
        each = SLOTS // PRIMARIES
        troubled = self._in_trouble // PRIMARIES
        written = round(9 * GIBIBYTE + GROWTH_BYTES * (now - self._began))
        facts = replace(
            FACTS,
            replication_slots=each,
            max_replication_slots=2 * each,
            max_slot_wal_keep_size_bytes=LIMIT_BYTES,
            server_time=now,
            wal_written_bytes=100 * GIBIBYTE + written,
        )
        slots = [self._in_danger(slot, written) if slot < troubled else _healthy(slot) for slot in range(each)]
        primary = replace(
            node(f"node-{number}", recovery=False, slots=tuple(slots)), cluster=f"cluster-{number}", facts=facts
        )
        return ClusterSnapshot(primary.cluster, (primary,))

    def _in_danger(self, number: int, written: int) -> Slot:
        return _healthy(number)._replace(
            active=False,
            wal_status="extended",
            inactive_since=self._began - 7200,
            safe_wal_size_bytes=LIMIT_BYTES - written,
            retained_wal_bytes=written,
            unconfirmed_wal_bytes=written,
            pinned_wal_bytes=0,
        )


def measure(in_trouble: int, seconds: float) -> Evaluation:
    """Evaluate for this long with so many slots in trouble, and return the slowest round of the last two minutes."""
    with tempfile.TemporaryDirectory() as name, Fleet(in_trouble) as fleet:
        folder = Path(name)
        config = {
            "global": {"scrape_interval": "15s", "evaluation_interval": "15s", "scrape_timeout": "14s"},
            "rule_files": [str(folder / "pgslot.rules.yml")],
            "scrape_configs": [
                {
                    "job_name": "pgslot-exporter",
                    "honor_labels": True,
                    "static_configs": [{"targets": [fleet.address]}],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
        shipped = (ROOT / "alerts/pgslot.rules.yml").read_text("utf-8")
        rules = re.sub(r"^( +for:) \d+[mh]$", r"\1 30s", shipped, flags=re.MULTILINE)
        (folder / "pgslot.rules.yml").write_text(rules, "utf-8")
        url = f"http://127.0.0.1:{(port := free_port())}"
        prometheus = Process(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            folder / "prometheus.log",
        )
        prometheus.start()
        try:
            wait_for(lambda: _answers(url), "Prometheus is ready", READY_SECONDS)
            return _slowest_round(url, in_trouble, seconds)
        finally:
            prometheus.stop()


def main() -> int:
    """Measure with each number of slots in trouble; return 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--in-trouble", type=int, nargs="+", default=[0, 500, 5_000], metavar="SLOTS")
    parser.add_argument("--seconds", type=float, default=420.0, help="for each; default %(default)s")
    options = parser.parse_args()
    if options.seconds < 180 or not all(0 <= number <= SLOTS for number in options.in_trouble):
        parser.error(f"expected at least 180 seconds, and 0 to {SLOTS} slots")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {SLOTS} slots")
    held = True
    for in_trouble in options.in_trouble:
        evaluation = measure(in_trouble, options.seconds)
        limit = LIMITS.get(in_trouble)
        held &= limit is None or (evaluation.seconds <= limit and not evaluation.missed)
        print(
            f"\n{in_trouble} in trouble: {evaluation.seconds:.2f} s in the slowest group{_verdict(evaluation, limit)}"
        )
        print(f"  missed rounds {evaluation.missed}; firing {evaluation.firing}")
        for group, duration in sorted(evaluation.by_group.items(), key=lambda item: -item[1]):
            print(f"  {duration:7.3f} s  {group}", flush=True)
    return 0 if held else 1


def _slowest_round(url: str, in_trouble: int, seconds: float) -> Evaluation:
    """Return for every group its slowest round of the last two minutes; the first minutes have no alerts yet."""
    ends = time.monotonic() + seconds
    slowest: dict[str, float] = {}
    while time.monotonic() < ends:
        time.sleep(5)
        if time.monotonic() > ends - 120:
            for group, duration in _by_group(url, "prometheus_rule_group_last_duration_seconds"):
                slowest[group] = max(slowest.get(group, 0.0), duration)
    answer = requests.get(
        f"{url}/api/v1/query", {"query": 'count by (alertname) (ALERTS{alertstate="firing"})'}, timeout=60
    )
    answer.raise_for_status()
    firing = {series["metric"]["alertname"]: int(series["value"][1]) for series in answer.json()["data"]["result"]}
    missed = sum(count for _, count in _by_group(url, "prometheus_rule_group_iterations_missed_total"))
    return Evaluation(in_trouble, slowest, round(missed), firing)


def _by_group(url: str, metric: str) -> Iterator[tuple[str, float]]:
    """Yield Prometheus' own metric by group of rules."""
    page = requests.get(f"{url}/metrics", timeout=60).text
    for group, value in re.findall(rf'^{metric}{{rule_group="[^;]*;([^"]*)"}} (\S+)$', page, flags=re.MULTILINE):
        yield group, float(value)


def _verdict(evaluation: Evaluation, limit: float | None) -> str:
    if limit is None:
        return ""
    return f" (at most {limit:g} s: {'held' if evaluation.seconds <= limit else 'MISSED'})"


def _healthy(number: int) -> Slot:
    return SLOT._replace(slot_name=f"slot_{number}", database=f"db{number % 7}", safe_wal_size_bytes=LIMIT_BYTES)


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/-/ready", timeout=5).status_code == 200
    except requests.RequestException:
        return False


if __name__ == "__main__":
    sys.exit(main())

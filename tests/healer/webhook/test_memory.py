"""The healer stays below the shipped limits of memory whatever a sender with the token sends."""

import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from healer.webhook.body import MAX_BODY_BYTES
from tests.support.builders.large_webhooks import gzip_bomb, ten_thousand_alerts, worst_bodies
from tests.support.servers.programs import Program

pytestmark = pytest.mark.servers

LIMIT = 256 * 1024 * 1024
"""Of docker-compose.yml and deploy/kubernetes/healer.yaml; of the systemd unit 512 MiB."""


@pytest.fixture
def healer(tmp_path: Path) -> Iterator[Program]:
    """A healer that may allocate no more than the limit: beyond that it gets a MemoryError."""
    config = tmp_path / "pgslot.yml"
    config.write_text(
        "clusters: {c: {nodes: {n: {conninfo: 'host=127.0.0.1 port=1 user=x'}},"
        " healer: {conninfo: 'host=127.0.0.1 port=1 user=x'}}}\n"
    )
    program = Program("pg-slot-healer", config, tmp_path)
    program.start()
    resource.prlimit(program.process.pid, resource.RLIMIT_DATA, (LIMIT, LIMIT))
    yield program
    assert program.stop() == 0


def peak_bytes(program: Program) -> int:
    """Return the most memory that the process had resident (VmHWM)."""
    status = Path(f"/proc/{program.process.pid}/status").read_text("ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def test_worst_bodies_stay_below_the_limit(healer: Program) -> None:
    for name, body in worst_bodies().items():
        answer = requests.post(f"{healer.url}/alerts", data=body, timeout=60)
        assert answer.status_code == 400, name
        assert len(answer.text) < 400
    statuses: list[int] = []

    def post() -> None:
        statuses.append(requests.post(f"{healer.url}/alerts", data=worst_bodies()["labels"], timeout=60).status_code)

    senders = [threading.Thread(target=post) for _ in range(12)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert set(statuses) <= {400, 503}
    assert len(statuses) == 12
    assert peak_bytes(healer) < LIMIT * 0.8
    assert healer.process.log.stat().st_size < 50_000


def test_gzip_bomb_is_refused_before_it_is_read(healer: Program) -> None:
    bomb = gzip_bomb()
    assert len(bomb) < 32 * 1024
    before = peak_bytes(healer)
    answer = requests.post(f"{healer.url}/alerts", data=bomb, headers={"Content-Encoding": "gzip"}, timeout=60)
    assert (answer.status_code, answer.text) == (415, "expected a body without Content-Encoding\n")
    assert peak_bytes(healer) - before < MAX_BODY_BYTES


def test_webhook_of_10_000_alerts_fits(healer: Program) -> None:
    for cluster, answer in (
        ("nosuch", "ignored_unknown_cluster=10000\n"),
        ("c", "started=1 joined=999 refused_full=9000\n"),
    ):
        body = ten_thousand_alerts(cluster, "n")
        assert 8 * 1024 * 1024 < len(body) < MAX_BODY_BYTES
        assert requests.post(f"{healer.url}/alerts", data=body, timeout=60).text == answer
    assert peak_bytes(healer) < LIMIT * 0.8

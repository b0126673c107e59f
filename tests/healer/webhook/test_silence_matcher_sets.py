"""
Silences with several matcher sets, in a real Alertmanager: from 0.32 on each set silences what it matches.

No API of these versions creates one: it is written into the silences file, as one from a newer peer would be.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from healer.doctor.checks.silences import check_silences
from healer.doctor.http import Client
from healer.doctor.result import CheckStatus
from healer.remedies.registry import FORCE_SNAPSHOT
from healer.webhook.alertmanager_api import AlertmanagerClient, ListedAlerts
from healer.webhook.payload import HEAL_LABEL
from tests.support.servers.monitoring import ALERTMANAGER, Alertmanager, version_of
from tests.support.servers.processes import free_port


def knows_matcher_sets() -> bool:
    """Return whether this Alertmanager knows them; an older one takes the first set for the whole silence."""
    return version_of(ALERTMANAGER) >= (0, 32)


SILENCE = "0b9d7a5e-5f0a-4d8b-9a55-1d3b9a2f6c10"
FIRST, SECOND, NEITHER = "PgSlotStalled", "PgSlotCreationStuck", "PgSlotCreationBlocked"


def field(number: int, value: bytes | str | int) -> bytes:
    """Return a field of a protobuf message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def matcher(name: str) -> bytes:
    """Return alertname=NAME as a Matcher: the type EQUAL is 0, which is not written."""
    return field(2, "alertname") + field(3, name)


def silence_with_two_sets() -> bytes:
    """Return a file of one silence: a MeshSilence after its length; its `matchers` are the first set once more."""
    now = int(time.time())
    sets = [field(11, field(1, matcher(name))) for name in (FIRST, SECOND)]
    silence = field(1, SILENCE) + field(2, matcher(FIRST))
    silence += b"".join(field(number, field(1, at)) for number, at in ((3, now - 60), (4, now + 3600), (5, now - 60)))
    silence += field(8, "ann") + field(9, "rebuild") + b"".join(sets)
    mesh = field(1, silence) + field(2, field(1, now + 7200))
    return varint(len(mesh)) + mesh


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    folder: Path = tmp_path_factory.mktemp("matcher-sets")
    server = Alertmanager(folder, {"alertmanager:9093": f"127.0.0.1:{free_port()}", "healer:9878": "127.0.0.1:1"})
    (folder / "alertmanager/data").mkdir()
    (folder / "alertmanager/data/silences").write_bytes(silence_with_two_sets())
    server.start()
    now = datetime.now(UTC)
    times = {"startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat()}
    alerts = [
        {"labels": {"alertname": name, HEAL_LABEL: FORCE_SNAPSHOT.name, "cluster": "c"}} | times
        for name in (FIRST, SECOND, NEITHER)
    ]
    requests.post(f"{server.url}/api/v2/alerts", json=alerts, timeout=10).raise_for_status()
    yield server
    server.stop()


async def test_healer_ignores_alerts_that_any_matcher_set_silences(alertmanager: Alertmanager) -> None:
    async with ListedAlerts(alertmanager.url) as listed_alerts:
        listing = await listed_alerts.fetch()
    muted = {listing.alerts[fingerprint].labels["alertname"]: why for fingerprint, why in listing.muted.items()}
    silenced = {FIRST, SECOND} if knows_matcher_sets() else {FIRST}
    assert muted == dict.fromkeys(silenced, f"silenced (by {SILENCE})")
    assert len(listing.alerts) == 3


async def test_doctor_names_silenced_alerts_and_reports_unlisted_matcher_sets(alertmanager: Alertmanager) -> None:
    alerts = [{"alertname": name, HEAL_LABEL: FORCE_SNAPSHOT.name, "cluster": "c"} for name in (FIRST, SECOND, NEITHER)]
    async with Client(alertmanager.url) as client:
        findings = await check_silences(AlertmanagerClient(client), client.shown, alerts)
    if knows_matcher_sets():
        unlisted, silence = findings
        assert unlisted.status is CheckStatus.UNKNOWN
        assert "has multiple matcher sets" in unlisted.found
        assert set(silence.found.removesuffix(": active now").split(", ")) == {FIRST, SECOND}
    else:
        [silence] = findings
        assert silence.found.startswith(f"{FIRST}: active until")
    assert (silence.status, silence.subject) == (CheckStatus.WARNING, SILENCE)

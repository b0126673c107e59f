"""What a person gets in twelve incidents: a real Alertmanager, the shipped routes and inhibition, 150 times faster."""

import datetime as dt
import json
import re
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
import yaml

from tests.support.alert_rules import ALERT_RULES, ALERTS
from tests.support.servers.monitoring import ALERTMANAGER, Server
from tests.support.servers.processes import Process, free_port

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]

FASTER = 60
"""More, and on a busy machine a group's wait, half a second, is over before Alertmanager's inhibitor has its alerts."""
MINUTES = 75
"""How long all incidents last, at the same time, each in a cluster of its own."""
SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Firing:
    """An alert that fires from one minute to another."""

    start: float
    end: float
    name: str
    node: str = ""
    slot: str = ""

    def labels(self, cluster: str) -> dict[str, str]:
        about = {"cluster": cluster, "node": self.node, "slot_name": self.slot, "database": "shop" if self.slot else ""}
        return {"alertname": self.name, **ALERT_RULES[self.name]["labels"], **{k: v for k, v in about.items() if v}}


@dataclass(frozen=True)
class Incident:
    """Alerts of a cluster, and what a person may and must get of them."""

    cluster: str
    firing: tuple[Firing, ...]
    critical: int
    """The most notifications with a critical alert."""
    most: int
    """The most notifications that say that something fires."""
    told: frozenset[tuple[str, str]]
    """(alert, slot) that must be in a notification."""


@dataclass(frozen=True)
class Notification:
    """A notification to people, at its minute."""

    minute: float
    cluster: str
    critical: bool
    firing: frozenset[tuple[str, str]]
    """(alert, slot)"""


def told(*about: tuple[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(about)


STORM = tuple(
    alert
    for number in range(500)
    # Within ten minutes each of them is about to be lost; a minute later the alert of its own fires.
    for start in [12 + number / 50]
    for alert in (
        Firing(start + 1, MINUTES, "PgSlotLossPredicted", "p", f"s{number}"),
        Firing(start + 5, MINUTES, "PgSlotWalHeadroomLow", "p", f"s{number}"),
        *([Firing(30, MINUTES, "PgSlotInactive", "p", f"s{number}")] if number % 5 == 0 else []),
        *([Firing(50, MINUTES, "PgSlotLost", "p", f"s{number}")] if number % 3 == 0 else []),
    )
)

INCIDENTS = (
    Incident(
        "stuck creation whose client tries again every ten minutes",
        (
            *(Firing(1 + 11 * n, 11 + 11 * n, "PgSlotCreationStuck", "s1", "cdc") for n in range(4)),
            Firing(14, 54, "PgSlotHealNoEffect", "s1", "cdc"),
        ),
        *(1, 2),
        told(("PgSlotCreationStuck", "cdc"), ("PgSlotHealNoEffect", "cdc")),
    ),
    Incident(
        "dead slot to the end",
        (
            Firing(30, 60, "PgSlotInactive", "p", "cdc"),
            Firing(35, MINUTES, "PgSlotLossPredicted", "p", "cdc"),
            Firing(45, 60, "PgSlotWalHeadroomLow", "p", "cdc"),
            Firing(60, MINUTES, "PgSlotLost", "p", "cdc"),
        ),
        *(1, 2),
        told(("PgSlotInactive", "cdc"), ("PgSlotLossPredicted", "cdc")),
    ),
    Incident(
        "failover that leaves three slots behind",
        (
            Firing(2, 20, "PgSlotTargetDown", "p"),
            *(Firing(3, 70, "PgSlotVanished", slot=slot) for slot in "abc"),
            *(Firing(6, 25, "PgSlotNotFailoverReady", "s2", slot) for slot in "xyz"),
            *(Firing(21, 24, "PgSlotNotPersisted", "p", slot) for slot in "xyz"),
        ),
        *(2, 4),
        told(("PgSlotTargetDown", ""), *(("PgSlotVanished", slot) for slot in "abc")),
    ),
    Incident(
        "five hundred slots on one sink",
        (Firing(12.2, MINUTES, "PgSlotManyEndangered", "p"), *STORM),
        *(1, 1),
        told(("PgSlotManyEndangered", "")),
    ),
    Incident(
        "prepared transaction that blocks a creation and pins three slots",
        (
            Firing(1, MINUTES, "PgSlotCreationBlocked", "p", "new"),
            *(Firing(15, 60, "PgSlotPinnedByTransaction", "p", slot) for slot in "abc"),
            *(Firing(50, MINUTES, "PgSlotWalHeadroomLow", "p", slot) for slot in "abc"),
            Firing(60, MINUTES, "PgSlotPreparedTransactionForgotten", "p"),
            Firing(63, MINUTES, "PgSlotHealNoEffect", "p", "new"),
        ),
        *(1, 6),
        told(("PgSlotCreationBlocked", "new"), ("PgSlotPreparedTransactionForgotten", "")),
    ),
    Incident(
        "exporter deployed every ten minutes while a slot is pinned",
        tuple(Firing(10 * n + 2, 10 * n + 10, "PgSlotPinnedByTransaction", "p", "cdc") for n in range(7)),
        *(0, 2),
        told(("PgSlotPinnedByTransaction", "cdc")),
    ),
    Incident(
        "node that answers now and then, with a slot that is lost there",
        (
            Firing(10, 70, "PgSlotTargetFlapping", "p"),
            Firing(20, MINUTES, "PgSlotLossPredicted", "p", "cdc"),
            Firing(60, MINUTES, "PgSlotLost", "p", "cdc"),
        ),
        *(1, 2),
        told(("PgSlotTargetFlapping", ""), ("PgSlotLossPredicted", "cdc")),
    ),
    Incident(
        "prepared transaction, and a client that pins another slot",
        (
            Firing(0, 70, "PgSlotPreparedTransactionForgotten", "p"),
            Firing(10, 60, "PgSlotPinnedByTransaction", "p", "cdc"),
        ),
        *(0, 2),
        told(("PgSlotPreparedTransactionForgotten", ""), ("PgSlotPinnedByTransaction", "cdc")),
    ),
    Incident(
        "second slot that is about to be lost, and a third that nobody has foreseen, as the server goes down",
        (
            Firing(5, MINUTES, "PgSlotLossPredicted", "p", "first"),
            Firing(25, MINUTES, "PgSlotLossPredicted", "p", "second"),
            Firing(40, MINUTES, "PgSlotTargetDown", "p"),
            Firing(41, MINUTES, "PgSlotLost", "p", "third"),
        ),
        *(4, 4),
        told(("PgSlotLossPredicted", "first"), ("PgSlotLossPredicted", "second"), ("PgSlotLost", "third")),
    ),
    Incident(
        "server down for a quarter of an hour, and warnings about it",
        (
            Firing(5, 20, "PgSlotTargetDown", "p"),
            Firing(6, 20, "PgSlotProbeFailing", "p"),
            Firing(6, 20, "PgSlotWalHeadroomLow", "p", "cdc"),
        ),
        *(1, 1),
        told(("PgSlotTargetDown", "")),
    ),
    Incident(
        "consumer that stops confirming, on a server without a limit",
        (
            Firing(0, MINUTES, "PgSlotNoWalLimit", "p"),
            Firing(10, MINUTES, "PgSlotVolumeFullPredicted", "p"),
            Firing(31, MINUTES, "PgSlotNotConfirmed", "p", "cdc"),
            Firing(35, MINUTES, "PgSlotGrowsWithoutLimit", "p", "cdc"),
            Firing(40, MINUTES, "PgSlotVolumeFullSoon", "p"),
            Firing(50, MINUTES, "PgSlotLossPredicted", "p", "cdc"),
        ),
        *(1, 3),
        told(("PgSlotNoWalLimit", ""), ("PgSlotVolumeFullPredicted", ""), ("PgSlotVolumeFullSoon", "")),
    ),
    Incident(
        "archiver that fails until the volume is nearly full",
        (
            Firing(10, MINUTES, "PgSlotArchiverFailing", "p"),
            Firing(35, MINUTES, "PgSlotVolumeFullSoon", "p"),
            Firing(35, MINUTES, "PgSlotVolumeFullPredicted", "p"),
        ),
        *(1, 2),
        told(("PgSlotArchiverFailing", ""), ("PgSlotVolumeFullSoon", "")),
    ),
)

each_incident = pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.cluster)


def faster(config: object) -> object:
    """Return the configuration with every duration of its routes divided by FASTER."""
    if isinstance(config, dict):
        return {
            key: _divided(value) if key.endswith(("_wait", "_interval", "_timeout")) else faster(value)
            for key, value in config.items()
        }
    return [faster(value) for value in config] if isinstance(config, list) else config


def _divided(duration: str) -> str:
    match = re.fullmatch(r"(\d+)([smh])", duration)
    assert match is not None, duration
    return f"{max(1, int(match[1]) * SECONDS[match[2]] * 1000 // FASTER)}ms"


class Run:
    """A run of all incidents: the notifications that people got, by minute."""

    def __init__(self, folder: Path) -> None:
        self.notifications: list[Notification] = []
        self._started = 0.0
        run = self

        class People(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                run.receive(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._people = ThreadingHTTPServer(("127.0.0.1", 0), People)
        config = faster(yaml.safe_load((ALERTS / "alertmanager.yml").read_text("utf-8")))
        assert isinstance(config, dict)
        url = f"http://127.0.0.1:{self._people.server_port}/"
        people = {"name": "people", "webhook_configs": [{"url": url, "send_resolved": True}]}
        config["receivers"] = [people, {"name": "healer"}, {"name": "nobody"}]
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(config), "utf-8")
        port = free_port()
        arguments: list[str | Path] = [
            *(ALERTMANAGER, f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'data'}"),
            *(f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="),
        ]
        self._server = Server(Process(arguments, folder / "alertmanager.log"), port)

    def receive(self, body: dict[str, object]) -> None:
        alerts = body["alerts"]
        assert isinstance(alerts, list)
        firing = [alert["labels"] for alert in alerts if alert["status"] == "firing"]
        self.notifications.append(
            Notification(
                self._minute,
                alerts[0]["labels"]["cluster"],
                any(labels["severity"] == "critical" for labels in firing),
                frozenset((labels["alertname"], labels.get("slot_name", "")) for labels in firing),
            )
        )

    @property
    def _minute(self) -> float:
        return (time.time() - self._started) * FASTER / 60

    def go_through(self) -> None:
        """Send the alerts as Prometheus does: again and again while they fire, and once more when they have ended."""
        threading.Thread(target=self._people.serve_forever, daemon=True).start()
        self._server.start()
        try:
            self._started = time.time()
            while (minute := self._minute) < MINUTES:
                alerts = [
                    self._alert(firing, incident.cluster, minute)
                    for incident in INCIDENTS
                    for firing in incident.firing
                    if firing.start <= minute < firing.end + 3
                ]
                url = f"{self._server.url}/api/v2/alerts"
                requests.post(url, json=alerts, timeout=30).raise_for_status()
                time.sleep(0.15)
        finally:
            self._server.stop()
            self._people.shutdown()
            self._people.server_close()

    def _alert(self, firing: Firing, cluster: str, minute: float) -> dict[str, object]:
        end = firing.end if minute >= firing.end else minute + 10
        return {
            "labels": firing.labels(cluster),
            "startsAt": self._time(firing.start),
            "endsAt": self._time(end),
        }

    def _time(self, minute: float) -> str:
        moment = self._started + minute * 60 / FASTER
        return dt.datetime.fromtimestamp(moment, dt.UTC).isoformat()


@pytest.fixture(scope="module")
def notifications(tmp_path_factory: pytest.TempPathFactory) -> list[Notification]:
    run = Run(tmp_path_factory.mktemp("alertmanager"))
    run.go_through()
    return run.notifications


@each_incident
def test_person_gets_no_more_than_the_incident_is_worth(notifications: list[Notification], incident: Incident) -> None:
    received = [note for note in notifications if note.cluster == incident.cluster and note.firing]
    assert len(received) <= incident.most, received
    assert sum(note.critical for note in received) <= incident.critical, received


@each_incident
def test_person_is_told_what_matters(notifications: list[Notification], incident: Incident) -> None:
    received = {about for note in notifications if note.cluster == incident.cluster for about in note.firing}
    assert incident.told <= received, received


def test_second_slot_is_told_within_minutes(notifications: list[Notification]) -> None:
    [minute, *_] = [note.minute for note in notifications if ("PgSlotLossPredicted", "second") in note.firing]
    assert 25 < minute < 35

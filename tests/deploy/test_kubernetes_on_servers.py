"""Both programs on real servers, with the configuration of deploy/kubernetes mounted as in the pods."""

import re
from pathlib import Path

import pytest
import requests

from tests.support.manifests import Manifest, container, filled, find, mounted
from tests.support.servers.processes import wait_for
from tests.support.servers.programs import Program
from tests.support.servers.stack import EXPORTER_ROLE, HEALER_ROLE, Stack

for_each_program = pytest.mark.parametrize("program", ["pg-slot-exporter", "pg-slot-healer"])


def conninfos(stack: Stack) -> dict[str, dict[str, str]]:
    """Return the Secrets for the servers of the test."""
    ports = f"{stack.primary.port},{stack.standby.port}"
    return filled() | {
        "pgslot-exporter-conninfo": {
            "orders-1": stack.primary.conninfo(EXPORTER_ROLE),
            "orders-2": stack.standby.conninfo(EXPORTER_ROLE),
        },
        "pgslot-healer-conninfo": {
            "orders": f"host=127.0.0.1,127.0.0.1 port={ports} target_session_attrs=read-write"
            f" dbname=postgres user={HEALER_ROLE}"
        },
    }


def probes(program: str) -> list[str]:
    probes_of_pod = [container(program)[kind]["httpGet"] for kind in ("livenessProbe", "readinessProbe")]
    assert [probe["port"] for probe in probes_of_pod] == ["http", "http"]
    return [probe["path"] for probe in probes_of_pod]


@for_each_program
def test_program_runs_with_mounted_files_and_answers_probes(databases: Stack, program: str, tmp_path: Path) -> None:
    running = Program(program, mounted(program, tmp_path, conninfos(databases)), tmp_path)
    running.start()
    try:
        assert probes(program) == ["/-/healthy", "/-/ready"]
        assert [running.get(path).status_code for path in probes(program)] == [200, 200]
        if program == "pg-slot-exporter":
            assert running.value("pgslot_up", cluster="orders", node="orders-2") == 1
            [url] = [entry["url"] for entry in find("ScrapeConfig", "pg-slot-exporter")["spec"]["httpSDConfigs"]]
            path = re.sub(r"^http://[^/]+", "", url)
            assert {target["labels"]["__param_node"] for target in running.get_json(path)} == {"orders-1", "orders-2"}
    finally:
        running.stop()


@for_each_program
def test_program_becomes_ready_although_primary_hangs(databases: Stack, program: str, tmp_path: Path) -> None:
    """Otherwise the Service would have no endpoint. The healer is ready as soon as it knows that it cannot act."""
    running = Program(program, mounted(program, tmp_path, conninfos(databases)), tmp_path)
    databases.primary.pause_all()
    try:
        running.start()
        assert running.get(probes(program)[0]).status_code == 200
    finally:
        databases.primary.resume_all()
        running.stop()


def webhook(status: str) -> Manifest:
    """Return the body that Alertmanager sends for an alert about a slot on the standby."""
    labels = {"alertname": "PgSlotCreationStuck", "cluster": "orders", "node": "orders-2", "slot_name": "two_replicas"}
    labels["heal"] = "log_standby_snapshot"
    alert = {
        "status": status,
        "labels": labels,
        "annotations": {},
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": "f00",
    }
    return {
        "version": "4",
        "groupKey": "{}",
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "healer",
        "groupLabels": {},
        "commonLabels": labels,
        "commonAnnotations": {},
        "externalURL": "",
        "alerts": [alert],
    }


def test_both_replicas_accept_webhooks_and_heal_together(databases: Stack, tmp_path: Path) -> None:
    """Both replicas receive the firing alert, as from two Alertmanagers, and only one of them the resolved alert."""
    replicas = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        file = mounted("pg-slot-healer", tmp_path / name, conninfos(databases))
        replicas.append(Program("pg-slot-healer", file, tmp_path / name))
    headers = {"Authorization": "Bearer token"}
    try:
        for replica in replicas:
            replica.start()
        databases.wait_until_idle()
        with databases.standby.create_slot("two_replicas") as creator:
            wait_for(
                lambda: databases.standby.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'two_replicas'"),
                "the slot is in creation",
            )
            for replica in replicas:
                answer = requests.post(f"{replica.url}/alerts", json=webhook("firing"), headers=headers, timeout=10)
                assert (answer.status_code, answer.text) == (200, "started=1\n")
            assert creator.wait(30)
            assert creator.error is None
            for replica in replicas:
                wait_for(lambda replica=replica: _outcome(replica), "the episode of each replica ends")  # type: ignore[misc]
            answer = requests.post(f"{replicas[1].url}/alerts", json=webhook("resolved"), headers=headers, timeout=10)
            assert answer.status_code == 200
        outcomes = sorted(_outcome(replica) or "" for replica in replicas)
        assert "healed" in outcomes, outcomes
        assert set(outcomes) <= {"healed", "resolved_itself"}
    finally:
        for replica in replicas:
            replica.stop()
        databases.drop_slot("two_replicas")


def _outcome(replica: Program) -> str | None:
    [episode] = replica.get_json("/episodes")
    return str(episode["outcome"]) if episode["outcome"] else None


def test_resource_limits_are_far_above_actual_memory_use(databases: Stack, tmp_path: Path) -> None:
    running = Program("pg-slot-exporter", mounted("pg-slot-exporter", tmp_path, conninfos(databases)), tmp_path)
    running.start()
    try:
        resident = running.value("process_resident_memory_bytes")
    finally:
        running.stop()
    resources = container("pg-slot-exporter")["resources"]
    assert resident is not None
    assert resident < int(resources["requests"]["memory"].removesuffix("Mi")) * 2**20
    assert resident * 2 < int(resources["limits"]["memory"].removesuffix("Mi")) * 2**20

"""The healer as a process: reload, the kill switch, signals."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from healer.commands.metrics_reference import metric_reference
from tests.support.builders.webhooks import ALERT, BODY
from tests.support.paths import ROOT
from tests.support.running_healer import write_healer_config
from tests.support.servers.processes import wait_for
from tests.support.servers.programs import Program
from tests.support.servers.stack import Stack


@pytest.fixture
def healer(databases: Stack, tmp_path: Path) -> Iterator[Program]:
    write_healer_config(tmp_path / "pgslot.yml", databases)
    program = Program("pg-slot-healer", tmp_path / "pgslot.yml", tmp_path)
    program.process.arguments.append("--web.enable-lifecycle")
    program.start()
    yield program
    program.stop()


def alert(healer: Program, slot: str, node: str = "standby") -> str:
    labels = {"heal": "log_standby_snapshot", "cluster": "c", "node": node, "slot_name": slot}
    body = BODY | {"alerts": [ALERT | {"labels": labels}]}
    return requests.post(f"{healer.url}/alerts", json=body, timeout=10).text.strip()


def reason(healer: Program) -> str | None:
    samples = healer.samples("pgslot_heal_capability_unavailable", cluster="c")
    return next((sample.labels["reason"] for sample in samples if sample.value == 1), None)


OFF = {"enabled": False, "disabled_reason": "CHG-7 migration"}


@pytest.mark.parametrize(("scope", "off"), [("cluster", OFF), ("all", {"switch": OFF})])
def test_kill_switch_takes_effect_by_a_reload_for_a_cluster_or_all(
    healer: Program, databases: Stack, tmp_path: Path, scope: str, off: dict[str, Any]
) -> None:
    """It cancels the running episode, blocks new ones, and shows in the metrics with its reason."""
    with databases.primary.hold_transaction():
        databases.wait_until_idle()
        with databases.standby.create_slot("switched_off"):
            assert alert(healer, "switched_off") == "started=1"
            wait_for(lambda: healer.get_json("/episodes")[0]["calls"], "it has called")
            write_healer_config(tmp_path / "pgslot.yml", databases, **off)
            assert requests.post(f"{healer.url}/-/reload", timeout=10).status_code == 200
            wait_for(lambda: healer.get_json("/episodes")[0]["outcome"] == "cancelled", "the episode is cancelled")
            [episode] = healer.get_json("/episodes")
            assert episode["why"] == "switched off: CHG-7 migration"
            wait_for(lambda: reason(healer) == "disabled", "the gauge says so")
            [info] = healer.samples("pgslot_heal_disabled_info")
            assert (info.labels, info.value) == ({"cluster": "c", "scope": scope, "why": "CHG-7 migration"}, 1)
            assert alert(healer, "switched_off") == "ignored_disabled=1"
            write_healer_config(tmp_path / "pgslot.yml", databases)
            healer.process.send(signal.SIGHUP)
            wait_for(lambda: reason(healer) is None, "it is on again")
            assert healer.samples("pgslot_heal_disabled_info") == []
            assert alert(healer, "switched_off") == "started=1"
    databases.drop_slot("switched_off")


def test_bad_configuration_file_changes_nothing(healer: Program, tmp_path: Path) -> None:
    (tmp_path / "pgslot.yml").write_text("clusters: {}")
    answer = requests.post(f"{healer.url}/-/reload", timeout=10)
    assert (answer.status_code, "expected at least one cluster" in answer.text) == (500, True)
    assert healer.value("pgslot_config_last_reload_successful") == 0
    assert healer.value("pgslot_heal_episode_active", cluster="c") == 0


def test_sigterm_ends_the_healer_in_order_even_if_the_primary_hangs(healer: Program, databases: Stack) -> None:
    with databases.primary.hold_transaction():
        databases.wait_until_idle()
        with databases.standby.create_slot("hung_primary"):
            assert alert(healer, "hung_primary") == "started=1"
            wait_for(lambda: healer.get_json("/episodes")[0]["calls"], "it has called")
            databases.primary.pause_all()
            try:
                assert healer.process.stop(timeout=12) == 0
            finally:
                databases.primary.resume_all()
    databases.drop_slot("hung_primary")
    ended = [line for line in healer.log_events() if line["msg"] == "episode ended"]
    assert [(line["outcome"], line["why"]) for line in ended] == [("cancelled", "the healer stops")]


def test_committed_metric_reference_is_current_and_complete(healer: Program) -> None:
    reference = metric_reference()
    assert (ROOT / "docs/reference/healer-metrics.md").read_text("utf-8") == reference
    served = {sample.name for sample in healer.all_samples() if sample.name.startswith("pgslot_heal")}
    documented = re.findall(r"^\| `(\w+)`", reference, re.MULTILINE)
    for name in served:
        assert re.sub(r"_(bucket|sum|count)$", "", name) in documented

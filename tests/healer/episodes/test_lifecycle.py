"""An episode's life: the manager keeps it until it has ended, whatever happens to it at the same moment."""

import asyncio
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import requests
import yaml

from healer.episodes.loop import next_deadline
from healer.remedies.attempt import Capability, Unavailable
from healer.remedies.force_snapshot.progress import RecordProgress
from healer.remedies.progress import Outcome
from healer.remedies.registry import FORCE_SNAPSHOT
from healer.webhook.payload import Action
from tests.support.builders.episodes import SETTINGS, RecordedManager, firing_alert, healer_config, write_config
from tests.support.running_healer import alert, until
from tests.support.servers.processes import wait_for
from tests.support.servers.programs import HEALER_PROGRAM, Program

C = {"cluster": "c", "remedy": FORCE_SNAPSHOT.name}
"""Labels of the series of cluster c."""


OFF = healer_config(enabled=False, why="CHG-7")


@pytest.fixture
def recorded() -> RecordedManager:
    return RecordedManager(healer_config())


async def test_reload_right_after_a_start_ends_the_episode() -> None:
    """Its task never runs: the episode ends nevertheless, and the next alert starts another."""
    recorded = RecordedManager(healer_config())
    assert recorded.manager.submit(firing_alert()) is Action.STARTED
    recorded.manager.reconfigure(OFF)
    await recorded.until_idle()
    [report] = recorded.manager.reports
    assert (report.outcome, report.why) == ("cancelled", "switched off: CHG-7")
    assert recorded.value("pgslot_heal_episodes_total", C | {"outcome": "cancelled"}) == 1
    assert recorded.value("pgslot_heal_episode_active", C) == 0
    recorded.manager.reconfigure(healer_config())
    assert recorded.manager.submit(firing_alert()) is Action.STARTED
    await recorded.manager.close()


async def test_disabling_and_enabling_at_once_loses_no_alert() -> None:
    recorded = RecordedManager(healer_config())
    recorded.manager.submit(firing_alert())
    recorded.manager.reconfigure(OFF)
    recorded.manager.reconfigure(healer_config())
    assert recorded.manager.submit(firing_alert("t")) is Action.JOINED
    await until(lambda: len(recorded.manager.reports) == 2, "the late alert has its own episode", 5)
    assert [subject.slot_name for subject in recorded.manager.reports[0].subjects] == ["t"]
    await recorded.manager.close()


def switch_off(recorded: RecordedManager) -> None:
    recorded.manager.reconfigure(OFF)


def shut_down(recorded: RecordedManager) -> None:
    recorded.closing = asyncio.create_task(recorded.manager.close())


Stop = Callable[[RecordedManager], None]


@pytest.mark.parametrize(("stop", "why"), [(switch_off, "switched off: CHG-7"), (shut_down, "the healer stops")])
@pytest.mark.parametrize("hops", range(6))
async def test_stop_right_after_another_alert_joined_is_never_lost(stop: Stop, why: str, hops: int) -> None:
    """asyncio.wait_for of Python 3.11 swallows a cancellation then: only the stop reason is reliable."""
    recorded = RecordedManager(healer_config())
    recorded.manager.submit(firing_alert())
    await until(
        lambda: recorded.manager.reports[0].timeline[-1].text == "slot s: unobserved", "it has taken a snapshot", 5
    )
    recorded.manager.submit(firing_alert("t"))
    for _ in range(hops):
        await asyncio.sleep(0)
    stop(recorded)
    await recorded.until_idle()
    [report] = recorded.manager.reports
    assert (report.outcome, report.why, report.calls) == ("cancelled", why, 0)


async def test_stop_ends_the_episode_without_a_cancellation() -> None:
    """Whatever a library does with a cancellation: the loop checks the reason at every turn, and before every call."""
    recorded = RecordedManager(healer_config())
    recorded.manager.submit(firing_alert())
    await until(
        lambda: recorded.manager.reports[0].timeline[-1].text == "slot s: unobserved", "it has taken a snapshot", 5
    )
    [episode] = recorded.manager.running
    episode.stop("somebody said so")
    await recorded.until_idle()
    assert (recorded.manager.reports[0].outcome, recorded.manager.reports[0].why) == ("cancelled", "somebody said so")


async def test_attempt_on_an_outdated_target_does_not_change_the_gauge() -> None:
    recorded = RecordedManager(healer_config())
    recorded.monitor.watch(OFF.clusters)
    await until(lambda: ("c", FORCE_SNAPSHOT.name) in recorded.monitor.capabilities, "it is known to be disabled")
    recorded.monitor.note(healer_config().clusters[0], FORCE_SNAPSHOT, Capability(None))
    shown = recorded.value("pgslot_heal_capability_unavailable", C | {"reason": Unavailable.DISABLED})
    assert shown == 1
    await recorded.monitor.close()


async def test_series_of_a_removed_cluster_do_not_return_when_its_episode_ends() -> None:
    recorded = RecordedManager(healer_config("c", "d"))
    without_c = healer_config("d")
    recorded.monitor.watch(healer_config("c", "d").clusters)
    recorded.manager.submit(firing_alert())
    await until(lambda: ("c", FORCE_SNAPSHOT.name) in recorded.monitor.capabilities, "it has been checked")
    recorded.manager.reconfigure(without_c)
    recorded.monitor.watch(without_c.clusters)
    await recorded.until_idle()
    names = ("capability_unavailable", "episode_active", "calls_remaining", "episode_deadline_timestamp_seconds")
    labels = [{"reason": "unreachable"}, {}, {"budget": "hour"}, {}]
    for name, more in zip(names, labels, strict=True):
        assert recorded.value(f"pgslot_heal_{name}", C | more) is None, name
    assert (
        recorded.value("pgslot_heal_calls_remaining", {"cluster": "d", "remedy": FORCE_SNAPSHOT.name, "budget": "hour"})
        == 50
    )
    await recorded.monitor.close()


OPEN = RecordProgress()
OVER = OPEN.end(Outcome.RESOLVED_ITSELF, "usable")


@pytest.mark.parametrize(
    ("slots", "deadline"),
    [
        ([OPEN], 100.0),
        ([OPEN, replace(OPEN, since=50.0)], 100.0),
        ([OVER, replace(OPEN, since=50.0)], 150.0),
        ([OVER, replace(OVER, since=50.0)], 150.0),
        ([], 100.0),
    ],
    ids=["one", "another joins", "the first one is over", "all are over", "none yet"],
)
def test_deadline_is_that_of_the_first_open_slot(slots: list[RecordProgress], deadline: float) -> None:
    """PgSlotHealOverdue fires when the deadline has passed: slots that join do not hide that an episode is stuck."""
    assert next_deadline(slots, 100.0) == deadline


async def test_deadline_is_exposed_while_an_episode_runs() -> None:
    recorded = RecordedManager(healer_config(settings=replace(SETTINGS, give_up_after=100.0)))
    recorded.manager.submit(firing_alert())
    deadline = recorded.value("pgslot_heal_episode_deadline_timestamp_seconds", C)
    assert deadline is not None
    assert 99 < deadline - time.time() <= 100
    await recorded.manager.close()
    assert recorded.value("pgslot_heal_episode_deadline_timestamp_seconds", C) is None


async def test_slot_that_joins_late_has_its_own_time_limit(recorded: RecordedManager) -> None:
    """It gets give_up_after from its own alert on, and the slot before it is given up in time."""
    recorded = RecordedManager(healer_config(settings=replace(SETTINGS, give_up_after=2.0)))
    recorded.manager.submit(firing_alert())
    await asyncio.sleep(1.2)
    recorded.manager.submit(firing_alert("t"))
    await until(lambda: not recorded.running, "it has ended", 10)
    [report] = recorded.manager.reports
    assert [(heal.slot_name, heal.outcome) for heal in report.slots] == [("s", "gave_up"), ("t", "gave_up")]
    assert all(2.0 <= heal.seconds < 3.5 for heal in report.slots)
    assert report.seconds > 3.1
    assert recorded.value("pgslot_heal_episodes_total", C | {"outcome": "gave_up"}) == 2


async def test_alert_of_an_unhealed_slot_is_accepted_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healer.webhook.deadlines.RETRY_AFTER_SECONDS", 0.5)
    recorded = RecordedManager(healer_config(settings=replace(SETTINGS, give_up_after=0.2)))
    recorded.manager.submit(firing_alert())
    assert firing_alert().fingerprint in recorded.manager.seen.current
    await recorded.until_idle()
    assert firing_alert().fingerprint in recorded.manager.seen.current
    await until(lambda: firing_alert().fingerprint not in recorded.manager.seen.current, "it is accepted again", 5)


async def test_late_alert_that_resolves_while_it_waits_starts_no_episode() -> None:
    recorded = RecordedManager(healer_config())
    recorded.manager.submit(firing_alert())
    recorded.manager.reconfigure(healer_config(settings=replace(SETTINGS, interval=11.0)))
    [episode] = recorded.manager.running
    episode.stop("for the test")
    assert recorded.manager.submit(firing_alert("t")) is Action.JOINED
    assert set(recorded.manager.active) == {"c/s", "c/t"}
    assert recorded.manager.submit(firing_alert("t", firing=False)) is Action.RESOLVED
    await recorded.until_idle()
    await asyncio.sleep(0.1)
    assert len(recorded.manager.reports) == 1


async def test_late_alert_beyond_the_limit_is_not_remembered_as_seen() -> None:
    recorded = RecordedManager(healer_config("c", "d", settings=replace(SETTINGS, clusters_at_once=1)))
    recorded.manager.submit(firing_alert())
    [episode] = recorded.manager.running
    episode.stop("for the test")
    recorded.manager.submit(firing_alert("t"))
    recorded.manager.may_act(("c", FORCE_SNAPSHOT.name), wanted=False)
    assert recorded.manager.may_act(("d", FORCE_SNAPSHOT.name), wanted=True)
    await recorded.until_idle()
    assert "c/t" not in recorded.manager.seen.current


async def test_clusters_that_need_no_attempt_do_not_count_against_the_limit() -> None:
    """Ten clusters whose nodes do not answer need no attempt, and the eleventh is accepted."""
    names = [f"c{i}" for i in range(11)]
    recorded = RecordedManager(healer_config(*names))
    for name in names[:10]:
        assert recorded.manager.submit(firing_alert(cluster=name)) is Action.STARTED
    assert recorded.value("pgslot_heal_clusters_remaining", {}) == 0
    await until(lambda: recorded.value("pgslot_heal_clusters_remaining", {}) == 10, "they need no attempt", 8)
    assert recorded.running == 10
    assert recorded.manager.submit(firing_alert(cluster="c10")) is Action.STARTED
    await recorded.manager.close()


@pytest.mark.servers
@pytest.mark.parametrize("how", ["reload", "SIGHUP"])
def test_no_episode_outlives_a_disabling_right_after_the_webhook(tmp_path: Path, how: str) -> None:
    """As a process: whichever comes first, no episode outlives `enabled: false`, and the next alert is accepted."""
    file = tmp_path / "pgslot.yml"
    write_config(file, enabled=True)
    program = Program("pg-slot-healer", file, tmp_path)
    program.process.arguments.append("--web.enable-lifecycle")
    program.start()
    try:
        for trial in range(6):
            write_config(file, enabled=False)
            body = json.dumps({"version": "4", "alerts": [alert(f"s{trial}")]})
            requests.post(f"{program.url}/alerts", data=body, timeout=10).raise_for_status()
            if how == "reload":
                requests.post(f"{program.url}/-/reload", timeout=10).raise_for_status()
            else:
                program.process.send(signal.SIGHUP)
            wait_for(lambda: all(episode["outcome"] for episode in program.get_json("/episodes")), "none runs")
            loaded = len([line for line in program.log_events() if line["msg"] == "configuration reloaded"])
            write_config(file, enabled=True)
            requests.post(f"{program.url}/-/reload", timeout=10).raise_for_status()
            assert loaded or how == "SIGHUP"
        outcomes = [episode["outcome"] for episode in program.get_json("/episodes")]
    finally:
        program.stop()
    assert len(outcomes) >= 5
    assert set(outcomes) == {"cancelled"}
    assert [line for line in program.log_events() if line["level"] == "error"] == []


@pytest.mark.servers
def test_idle_connections_do_not_exhaust_file_descriptors(tmp_path: Path) -> None:
    """With 600 connections and 256 descriptors, webhooks are still accepted, and files can be read."""
    write_config(tmp_path / "pgslot.yml", enabled=True)
    program = Program("pg-slot-healer", tmp_path / "pgslot.yml", tmp_path)
    program.process.arguments[:0] = ["bash", "-c", 'ulimit -n 256; exec "$0" "$@"']
    program.process.arguments.append("--web.enable-lifecycle")
    program.start()
    try:
        with ExitStack() as held:
            for _ in range(600):
                held.enter_context(socket.create_connection(("127.0.0.1", program.port)))
            body = json.dumps({"version": "4", "alerts": [alert("s")]})
            assert requests.post(f"{program.url}/alerts", data=body, timeout=10).text == "started=1\n"
            assert requests.post(f"{program.url}/-/reload", timeout=10).status_code == 200
    finally:
        program.stop()


@pytest.mark.servers
def test_ctrl_c_ends_the_command_heal_without_a_traceback(tmp_path: Path) -> None:
    """Its node does not answer, so that the command would run for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        there = {"conninfo": f"host=127.0.0.1 port={silent.getsockname()[1]} user=x dbname=x"}
        config = {"clusters": {"c": {"nodes": {"standby": there}, "healer": there}}}
        (tmp_path / "pgslot.yml").write_text(yaml.safe_dump(config))
        healing = subprocess.Popen(
            [HEALER_PROGRAM, "heal", "c", f"--config.file={tmp_path / 'pgslot.yml'}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        silent.settimeout(20)
        connection, _ = silent.accept()
        with connection:
            healing.send_signal(signal.SIGINT)
            _, error = healing.communicate(timeout=20)
    assert (healing.returncode, error) == (130, b"")

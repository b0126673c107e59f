"""An episode's life: it is always in the books until it has ended, whatever happens to it in the same moment."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
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
from tests.support.builders.episodes import SETTINGS, Books, config, firing, write_config
from tests.support.running_healer import alert, until
from tests.support.servers.processes import wait_for
from tests.support.servers.programs import Program

C = {"cluster": "c", "remedy": FORCE_SNAPSHOT.name}
"""Labels of the series of cluster c."""


OFF = config(enabled=False, why="CHG-7")


@pytest.fixture
def books() -> Books:
    return Books(config())


async def test_a_reload_in_the_moment_of_a_start_leaves_nothing_behind() -> None:
    """Its task has not run yet, and never will: it ends all the same, and the next alert starts another."""
    books = Books(config())
    assert books.episodes.submit(firing()) is Action.STARTED
    books.episodes.reconfigure(OFF)
    await books.ended()
    [report] = books.episodes.reports
    assert (report.outcome, report.why) == ("cancelled", "switched off: CHG-7")
    assert books.value("pgslot_heal_episodes_total", C | {"outcome": "cancelled"}) == 1
    assert books.value("pgslot_heal_episode_active", C) == 0
    books.episodes.reconfigure(config())
    assert books.episodes.submit(firing()) is Action.STARTED
    await books.episodes.close()


async def test_off_and_on_again_in_one_moment_loses_no_alert() -> None:
    books = Books(config())
    books.episodes.submit(firing())
    books.episodes.reconfigure(OFF)
    books.episodes.reconfigure(config())
    assert books.episodes.submit(firing("t")) is Action.JOINED
    await until(lambda: len(books.episodes.reports) == 2, "the late alert has an episode of its own", 5)
    assert [subject.slot_name for subject in books.episodes.reports[0].subjects] == ["t"]
    await books.episodes.close()


def switch_off(books: Books) -> None:
    books.episodes.reconfigure(OFF)


def shut_down(books: Books) -> None:
    books.closing = asyncio.create_task(books.episodes.close())


Stop = Callable[[Books], None]


@pytest.mark.parametrize(("stop", "why"), [(switch_off, "switched off: CHG-7"), (shut_down, "the healer stops")])
@pytest.mark.parametrize("hops", range(6))
async def test_a_stop_right_after_another_alert_joined_is_never_lost(stop: Stop, why: str, hops: int) -> None:
    """asyncio.wait_for of Python 3.11 swallows a cancellation then: the stop reason is what counts."""
    books = Books(config())
    books.episodes.submit(firing())
    await until(lambda: books.episodes.reports[0].timeline[-1].text == "slot s: unobserved", "it has looked", 5)
    books.episodes.submit(firing("t"))
    for _ in range(hops):
        await asyncio.sleep(0)
    stop(books)
    await books.ended()
    [report] = books.episodes.reports
    assert (report.outcome, report.why, report.calls) == ("cancelled", why, 0)


async def test_a_stop_counts_without_any_cancellation() -> None:
    """Whatever a library does with one: the loop asks for the reason at each turn, and before each call."""
    books = Books(config())
    books.episodes.submit(firing())
    await until(lambda: books.episodes.reports[0].timeline[-1].text == "slot s: unobserved", "it has looked", 5)
    [running] = books.episodes._running.values()
    running.episode.stop("somebody said so")
    await books.ended()
    assert (books.episodes.reports[0].outcome, books.episodes.reports[0].why) == ("cancelled", "somebody said so")


async def test_what_an_outdated_target_shows_changes_no_gauge() -> None:
    books = Books(config())
    books.monitor.watch(OFF.clusters)
    await until(lambda: ("c", FORCE_SNAPSHOT.name) in books.monitor.capabilities, "it is known to be switched off")
    books.monitor.note(config().clusters[0], FORCE_SNAPSHOT, Capability(None))
    shown = books.value("pgslot_heal_capability_unavailable", C | {"reason": Unavailable.DISABLED})
    assert shown == 1
    await books.monitor.close()


async def test_series_of_a_removed_cluster_stay_gone_also_when_its_episode_ends_later() -> None:
    registry_of = Books(config("c", "d"))
    books, both, one = registry_of, config("c", "d"), config("d")
    books.monitor.watch(both.clusters)
    books.episodes.submit(firing())
    await until(lambda: ("c", FORCE_SNAPSHOT.name) in books.monitor.capabilities, "it has been checked")
    books.episodes.reconfigure(one)
    books.monitor.watch(one.clusters)
    await books.ended()
    names = ("capability_unavailable", "episode_active", "calls_remaining", "episode_deadline_timestamp_seconds")
    labels = [{"reason": "unreachable"}, {}, {"budget": "hour"}, {}]
    for name, more in zip(names, labels, strict=True):
        assert books.value(f"pgslot_heal_{name}", C | more) is None, name
    assert (
        books.value("pgslot_heal_calls_remaining", {"cluster": "d", "remedy": FORCE_SNAPSHOT.name, "budget": "hour"})
        == 50
    )
    await books.monitor.close()


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
def test_the_deadline_is_that_of_the_first_open_slot(slots: list[RecordProgress], deadline: float) -> None:
    """PgSlotHealOverdue fires when it has passed: the episode is stuck, and slots that join it do not hide that."""
    assert next_deadline(slots, 100.0) == deadline


async def test_the_deadline_is_exposed_while_an_episode_runs() -> None:
    books = Books(config(settings=replace(SETTINGS, give_up_after=100.0)))
    books.episodes.submit(firing())
    deadline = books.value("pgslot_heal_episode_deadline_timestamp_seconds", C)
    assert deadline is not None
    assert 99 < deadline - time.time() <= 100
    await books.episodes.close()
    assert books.value("pgslot_heal_episode_deadline_timestamp_seconds", C) is None


async def test_a_slot_that_joins_late_has_its_own_time(books: Books) -> None:
    """It is looked at for give_up_after from its own alert, and the one before it is given up in time."""
    books = Books(config(settings=replace(SETTINGS, give_up_after=2.0)))
    books.episodes.submit(firing())
    await asyncio.sleep(1.2)
    books.episodes.submit(firing("t"))
    await until(lambda: not books.running, "it has ended", 10)
    [report] = books.episodes.reports
    assert [(heal.slot_name, heal.outcome) for heal in report.slots] == [("s", "gave_up"), ("t", "gave_up")]
    assert all(2.0 <= heal.seconds < 3.5 for heal in report.slots)
    assert report.seconds > 3.1
    assert books.value("pgslot_heal_episodes_total", C | {"outcome": "gave_up"}) == 2


async def test_an_alert_whose_slot_is_left_open_is_news_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healer.webhook.deadlines.RETRY_AFTER_SECONDS", 0.5)
    books = Books(config(settings=replace(SETTINGS, give_up_after=0.2)))
    books.episodes.submit(firing())
    assert firing().fingerprint in books.episodes.seen.current
    await books.ended()
    assert firing().fingerprint in books.episodes.seen.current
    await until(lambda: firing().fingerprint not in books.episodes.seen.current, "it is news again", 5)


async def test_a_late_alert_that_resolves_while_it_waits_starts_nothing() -> None:
    books = Books(config())
    books.episodes.submit(firing())
    books.episodes.reconfigure(config(settings=replace(SETTINGS, interval=11.0)))
    [running] = books.episodes._running.values()
    running.episode.stop("for the test")
    assert books.episodes.submit(firing("t")) is Action.JOINED
    assert set(books.episodes.active) == {"c/s", "c/t"}
    assert books.episodes.submit(firing("t", firing=False)) is Action.RESOLVED
    await books.ended()
    await asyncio.sleep(0.1)
    assert len(books.episodes.reports) == 1


async def test_a_late_alert_that_finds_no_room_is_not_remembered_as_taken() -> None:
    books = Books(config("c", "d", settings=replace(SETTINGS, clusters_at_once=1)))
    books.episodes.submit(firing())
    [running] = books.episodes._running.values()
    running.episode.stop("for the test")
    books.episodes.submit(firing("t"))
    books.episodes._acting = {("d", FORCE_SNAPSHOT.name)}
    await until(lambda: not books.episodes._running, "it has ended", 5)
    assert "c/t" not in books.episodes.seen.current


async def test_clusters_that_are_only_looked_at_do_not_count() -> None:
    """Ten clusters whose nodes do not answer: there is nothing to call for, and the eleventh is not turned away."""
    names = [f"c{i}" for i in range(11)]
    books = Books(config(*names))
    for name in names[:10]:
        assert books.episodes.submit(firing(cluster=name)) is Action.STARTED
    assert books.value("pgslot_heal_clusters_remaining", {}) == 0
    await until(lambda: books.value("pgslot_heal_clusters_remaining", {}) == 10, "they are only looked at", 8)
    assert books.running == 10
    assert books.episodes.submit(firing(cluster="c10")) is Action.STARTED
    await books.episodes.close()


@pytest.mark.parametrize("how", ["reload", "SIGHUP"])
def test_a_webhook_and_the_switch_back_to_back(tmp_path: Path, how: str) -> None:
    """As a process: whichever comes first, no episode outlives the switch, and the next alert is taken."""
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
            wait_for(lambda: all(each["outcome"] for each in program.get_json("/episodes")), "none runs")
            loaded = len([line for line in program.log_events() if line["msg"] == "configuration reloaded"])
            write_config(file, enabled=True)
            requests.post(f"{program.url}/-/reload", timeout=10).raise_for_status()
            assert loaded or how == "SIGHUP"
        outcomes = [each["outcome"] for each in program.get_json("/episodes")]
    finally:
        program.stop()
    assert len(outcomes) >= 5
    assert set(outcomes) == {"cancelled"}
    assert [line for line in program.log_events() if line["level"] == "error"] == []


def test_connections_that_say_nothing_do_not_use_up_its_descriptors(tmp_path: Path) -> None:
    """Six hundred of them, and 256 descriptors: webhooks are taken, and files can be read."""
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


def test_ctrl_c_ends_a_heal_by_hand_without_traceback(tmp_path: Path) -> None:
    """Its node does not answer, so that it would go on looking for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        there = {"conninfo": f"host=127.0.0.1 port={silent.getsockname()[1]} user=x dbname=x"}
        config = {"clusters": {"c": {"nodes": {"standby": there}, "healer": there}}}
        (tmp_path / "pgslot.yml").write_text(yaml.safe_dump(config))
        program = Path(sys.executable).with_name("pg-slot-healer")
        healing = subprocess.Popen(
            [str(program), "heal", "c", f"--config.file={tmp_path / 'pgslot.yml'}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # As at a terminal: in a shell's background job, which the tests may be, it is ignored, and so in children.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads of ours
        )
        silent.settimeout(20)
        connection, _ = silent.accept()
        with connection:
            healing.send_signal(signal.SIGINT)
            _, error = healing.communicate(timeout=20)
    assert (healing.returncode, error) == (130, b"")

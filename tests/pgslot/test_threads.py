"""Slow work outside the event loop has threads of its own: passwords, large configurations, name lookups."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from healer.webhook.alertmanager_api import ListedAlerts
from pgslot.cli.errors import ConfigError
from pgslot.config import loader
from pgslot.config.reload import ConfigReloader
from pgslot.snapshot.cluster import ClusterCollector
from tests.support.fakes.alertmanager import fake_alertmanager
from tests.support.web_configs import Files, basic, folder, get, hashed, serving

HELD_SECONDS = 60.0


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return folder(tmp_path)


@contextmanager
def asyncios_threads_blocked() -> Iterator[None]:
    """As by name lookups that hang."""
    released = threading.Event()
    loop = asyncio.get_running_loop()
    try:
        for _ in range(100):
            loop.run_in_executor(None, released.wait, HELD_SECONDS)
        yield
    finally:
        released.set()


async def test_a_password_is_verified_while_asyncios_threads_are_blocked(files: Files) -> None:
    path = files.write({"basic_auth_users": {"prometheus": hashed("secret")}})
    with asyncios_threads_blocked():
        async with serving(path) as port, asyncio.timeout(HELD_SECONDS / 2):
            assert (await get(port, headers=basic("prometheus", "secret")))[0] == 200
            assert (await get(port, headers=basic("prometheus", "wrong")))[0] == 401


async def test_an_answer_of_alertmanager_is_parsed_while_asyncios_threads_are_blocked() -> None:
    """It may be 64 MiB of JSON, which has a thread of its own."""
    with asyncios_threads_blocked():
        async with (
            asyncio.timeout(HELD_SECONDS / 2),
            fake_alertmanager("[]", datetime.now(UTC).isoformat()) as url,
            ListedAlerts(url) as listed_alerts,
        ):
            assert (await listed_alerts.fetch()).alerts == {}


async def test_a_reload_of_four_thousand_nodes_does_not_block_the_event_loop(tmp_path: Path) -> None:
    file = tmp_path / "pgslot.yml"
    node = {"conninfo": "host=db dbname=postgres user=pgslot_exporter"}
    file.write_text(json.dumps({"clusters": {f"c{i}": {"nodes": {"a": node, "b": node}} for i in range(2_000)}}))
    configuration = ConfigReloader(lambda: loader.load(file), loader.single(""))
    observer = ClusterCollector(configuration.config.clusters, "executors")
    configuration.on_change(lambda model: observer.reconfigure(model.clusters))
    longest = 0.0
    with asyncios_threads_blocked():
        began = time.monotonic()
        reload = asyncio.create_task(configuration.reload())
        async with asyncio.timeout(HELD_SECONDS / 2):
            while not reload.done():
                turn = time.monotonic()
                await asyncio.sleep(0.01)
                longest = max(longest, time.monotonic() - turn)
        assert reload.result() is None
    assert len(configuration.config.clusters) == 2_000
    assert longest < (time.monotonic() - began) / 2
    assert observer.knows("c1999", "b")
    await observer.close()


async def test_reloads_run_one_after_another_and_the_last_one_counts() -> None:
    files = iter(["host=a", "host=b", "host=c"])
    configuration = ConfigReloader(lambda: loader.single(next(files)), loader.single(""))
    configuration.schedule_reload()
    assert not any(await asyncio.gather(configuration.reload(), configuration.reload()))
    assert configuration.config == loader.single("host=c")


async def test_a_file_that_is_nested_too_deeply_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "pgslot.yml"
    file.write_text("[\n" * 2_000)
    with pytest.raises(ConfigError, match="collections nested too deeply"):
        loader.load(file)
    configuration = ConfigReloader(lambda: loader.load(file), loader.single("host=a"))
    assert "nested too deeply" in str(await configuration.reload())
    assert (configuration.last_ok, configuration.config) == (False, loader.single("host=a"))


async def test_an_internal_error_in_a_reload_is_a_failed_reload(caplog: pytest.LogCaptureFixture) -> None:
    """Only pgslot_config_last_reload_successful can show it after a signal, whose reload nobody awaits."""

    def fail(*_: object) -> Any:
        raise KeyError("unexpected")

    configuration = ConfigReloader(fail, loader.single("host=a"))
    assert "unexpected" in str(await configuration.reload())
    assert (configuration.last_ok, configuration.config) == (False, loader.single("host=a"))
    [logged] = [record for record in caplog.records if record.exc_info]
    assert logged.levelname == "ERROR"
    # The same if the configuration can be read and cannot be put in force.
    reloader = ConfigReloader(lambda: loader.single("host=b"), loader.single("host=a"))
    reloader.on_change(fail)
    assert "unexpected" in str(await reloader.reload())
    assert not reloader.last_ok

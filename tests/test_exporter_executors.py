"""What runs beside the loop runs beside everything else as well: passwords, large configurations, names."""

import asyncio
import threading
import time
from pathlib import Path

import pytest
import yaml

from exporter import config
from exporter.observer import Observer
from exporter.reload import Configuration
from exporter.yamlfile import ConfigError
from tests.webfiles import Files, basic, folder, get, hashed, serving


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return folder(tmp_path)


async def test_a_password_does_not_wait_for_what_fills_asyncios_threads(files: Files) -> None:
    path = files.write({"basic_auth_users": {"prometheus": hashed("secret")}})
    released = threading.Event()
    for _ in range(100):
        asyncio.get_running_loop().run_in_executor(None, released.wait, 20)
    try:
        async with serving(path) as port:
            began = time.monotonic()
            assert (await get(port, headers=basic("prometheus", "secret")))[0] == 200
            assert (await get(port, headers=basic("prometheus", "wrong")))[0] == 401
            assert time.monotonic() - began < 10
    finally:
        released.set()


async def test_a_reload_of_ten_thousand_nodes_does_not_stop_the_loop(tmp_path: Path) -> None:
    file = tmp_path / "pgslot.yml"
    node = {"conninfo": "host=db dbname=postgres user=pgslot_exporter"}
    file.write_text(yaml.safe_dump({"clusters": {f"c{i}": {"nodes": {"a": node, "b": node}} for i in range(5_000)}}))
    configuration = Configuration(lambda: config.load(file), config.single(""))
    observer = Observer(configuration.config.clusters, "executors")
    configuration.on_change(lambda config: observer.reconfigure(config.clusters))
    for _ in range(100):
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.1)
    longest = 0.0
    began = time.monotonic()
    reload = asyncio.create_task(configuration.reload_aside())
    while not reload.done():
        turn = time.monotonic()
        await asyncio.sleep(0.01)
        longest = max(longest, time.monotonic() - turn)
    assert reload.result() is None
    assert len(configuration.config.clusters) == 5_000
    assert longest < (time.monotonic() - began) / 2
    assert observer.knows("c4999", "b")
    await observer.close()


async def test_reloads_come_one_after_the_other_and_the_last_one_counts() -> None:
    files = iter(["host=a", "host=b", "host=c"])
    configuration = Configuration(lambda: config.single(next(files)), config.single(""))
    configuration.reload_soon()
    assert not any(await asyncio.gather(configuration.reload_aside(), configuration.reload_aside()))
    assert configuration.config == config.single("host=c")


async def test_a_file_that_is_nested_too_deeply_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "pgslot.yml"
    file.write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="collections nested too deeply"):
        config.load(file)
    configuration = Configuration(lambda: config.load(file), config.single("host=a"))
    assert "nested too deeply" in str(await configuration.reload_aside())
    assert (configuration.last_ok, configuration.config) == (False, config.single("host=a"))

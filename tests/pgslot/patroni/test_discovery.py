"""Members that Patroni lists: how it is polled, and how exporter and healer use its answers."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from healer.remedies.attempt import Unavailable
from healer.remedies.registry import FORCE_SNAPSHOT
from pgslot.config.loader import load
from pgslot.config.model import Config
from pgslot.config.reload import ConfigReloader
from pgslot.patroni import client as patroni_client
from pgslot.patroni.discovery import Discovery, discover_once
from tests.support.fakes.patroni import SELF, Api, apis, real, written
from tests.support.running_healer import until as until_true
from tests.support.scrapes import get_metrics
from tests.support.servers.stack import EXPORTER_ROLE, Stack
from tests.support.web_configs import folder


async def hang() -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def redirect() -> web.StreamResponse:
    raise web.HTTPFound("/patroni")


async def too_long() -> web.StreamResponse:
    return web.Response(body=b" " * (patroni_client.MAX_ANSWER_BYTES + 1))


async def not_json() -> web.StreamResponse:
    return web.Response(text="<html>")


async def too_deep() -> web.StreamResponse:
    return web.Response(text="[" * 200_000)


async def refused() -> web.StreamResponse:
    return web.Response(status=503)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (hang, "no answer in 1 s"),
        (redirect, "expected 200, found 302"),
        (too_long, "expected at most 1048576 bytes, found more"),
        (not_json, "Expecting value"),
        (too_deep, "recursion"),
        (refused, "expected 200, found 503"),
    ],
)
async def test_the_next_url_is_tried_and_the_error_has_the_reasons(
    answer: Callable[[], Awaitable[web.StreamResponse]],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patroni_client, "URL_TIMEOUT_SECONDS", 1.0)
    bad, good = Api(answer=answer), Api()
    async with apis(bad, good) as urls:
        config = load(written(tmp_path, json.dumps(urls)))
        discovered, errors = await discover_once(config)
        assert ([node.name for node in discovered.clusters[0].nodes], errors) == (["a", "b"], {})
        good.answer = answer
        discovered, errors = await discover_once(config)
        assert discovered.clusters[0].nodes == ()
        assert errors["orders"].count(why) == 2, errors
        assert urls[0] in errors["orders"]


async def test_members_become_hosts_of_the_conninfos_of_nodes_and_healer(tmp_path: Path) -> None:
    api = Api()
    async with apis(api) as urls:
        config = load(written(tmp_path, json.dumps(urls), "user=eyes sslmode=disable", "user=hands"))
        discovered, _ = await discover_once(config)
        [cluster] = discovered.clusters
        assert cluster.system_identifier == SELF["database_system_identifier"]
        assert [set(node.conninfo.read().split()) for node in cluster.nodes] == [
            {"user=eyes", "sslmode=disable", "host=10.0.0.1", "port=5432"},
            {"user=eyes", "sslmode=disable", "host=10.0.0.2", "port=5433"},
        ]
        assert cluster.healer is not None
        expected = {"user=hands", "host=10.0.0.1,10.0.0.2", "port=5432,5433", "target_session_attrs=read-write"}
        assert set(cluster.healer.conninfo.read().split()) == expected
        # A proxy or a virtual address of the primary may be configured instead.
        with_host, _ = await discover_once(load(written(tmp_path, json.dumps(urls), healer="host=vip user=hands")))
        assert with_host.clusters[0].healer is not None
        assert with_host.clusters[0].healer.conninfo.read() == "host=vip user=hands"


async def test_without_members_the_healer_does_not_connect_to_libpqs_default_host(tmp_path: Path) -> None:
    config = load(written(tmp_path, "['http://127.0.0.1:1']"))
    discovered, _ = await discover_once(config)
    for without_members in (config, discovered, Discovery(ConfigReloader(lambda: config, config)).config):
        healer = without_members.clusters[0].healer
        assert healer is not None
        capability = await FORCE_SNAPSHOT.check(healer)
        assert capability.reason is Unavailable.UNREACHABLE
        assert "found none: it has not answered yet" in capability.advice


@asynccontextmanager
async def exporting(config: Callable[[], Config]) -> AsyncIterator[tuple[TestClient[Any, Any], ConfigReloader]]:
    configuration = ConfigReloader(config, config())
    async with TestClient(TestServer(application(configuration))) as client:
        yield client, configuration


async def names(client: TestClient[Any, Any]) -> list[str]:
    answer = await client.get("/sd")
    return [target["labels"]["__param_node"] for target in await answer.json()] if answer.status == 200 else []


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - it is behind a socket
            await asyncio.sleep(0.05)


async def test_members_come_go_and_move_while_the_others_keep_their_connections(
    databases: Stack, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgslot.patroni.discovery")
    identifier = databases.primary.sql("SELECT system_identifier::text FROM pg_catalog.pg_control_system()")[0][0]
    primary, standby = real(databases)
    api = Api({"members": [primary]}, {"database_system_identifier": identifier})
    session = f"SELECT pid FROM pg_catalog.pg_stat_activity WHERE usename = '{EXPORTER_ROLE}'"
    async with apis(api) as urls:
        file = written(
            tmp_path, f"{{urls: {json.dumps(urls)}, interval: 50ms}}", f"dbname=postgres user={EXPORTER_ROLE}"
        )
        async with exporting(lambda: load(file)) as (client, configuration):

            async def now(*expected: str) -> bool:
                return await names(client) == list(expected)

            await until(lambda: now("primary"))
            metrics = await get_metrics(client, "/metrics")
            assert metrics.value("pgslot_patroni_up", cluster="orders") == 1
            assert metrics.value("pgslot_patroni_members", cluster="orders") == 1
            assert metrics.value("pgslot_unlisted_standbys", node="primary") == 1
            [kept] = databases.primary.sql(session)

            api.cluster = {"members": [primary, standby]}
            await until(lambda: now("primary", "standby"))
            assert (await get_metrics(client, "/metrics")).value("pgslot_unlisted_standbys", node="primary") == 0
            assert await configuration.reload() is None
            assert await names(client) == ["primary", "standby"], "a reload keeps the members"
            assert (await get_metrics(client, "/probe?cluster=orders&node=standby")).value("pgslot_patroni_up") == 1
            assert databases.primary.sql(session) == [kept]

            api.answer = refused
            await until(lambda: down(client))
            metrics = await get_metrics(client, "/metrics")
            assert [metrics.value("pgslot_up", node=node) for node in ("primary", "standby")] == [1, 1]
            answered_at = metrics.value("pgslot_patroni_last_answer_timestamp_seconds")
            assert (await get_metrics(client, "/metrics")).value(
                "pgslot_patroni_last_answer_timestamp_seconds"
            ) == answered_at

            api.answer, api.cluster = None, {"members": [primary, {**standby, "port": 1}]}
            await until(lambda: now_down(client, "standby"))
            api.cluster = {"members": [primary]}
            await until(lambda: now("primary"))
            assert databases.primary.sql(session) == [kept]

            # A server with another system identifier than Patroni's is not one of the members.
            api.itself = {"database_system_identifier": "1"}
            await until(lambda: now_down(client, "primary"))
            status = (await get_metrics(client, "/metrics")).state(
                "pgslot_probe_status", "status", node="primary", probe="node"
            )
            assert status == "wrong_cluster"
    messages = [record.getMessage() for record in caplog.records if record.name == "pgslot.patroni.discovery"]
    assert messages.count("Patroni did not list the members, the last known members stay") == 1
    assert messages.count("asked Patroni for the members") == 2


async def down(client: TestClient[Any, Any]) -> bool:
    return (await get_metrics(client, "/metrics")).value("pgslot_patroni_up") == 0


async def now_down(client: TestClient[Any, Any], node: str) -> bool:
    return (await get_metrics(client, "/metrics")).value("pgslot_up", node=node) == 0


async def test_after_a_restart_prometheus_keeps_its_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No list until every Patroni has been polled; one that does not answer does not hide the other clusters."""
    monkeypatch.setattr(patroni_client, "URL_TIMEOUT_SECONDS", 1.0)
    api = Api(answer=hang)
    async with apis(api) as urls:
        orders = f"{{patroni: {{urls: {json.dumps(urls)}, interval: 50ms}}, conninfo: ''}}"
        file = tmp_path / "pgslot.yml"
        file.write_text(
            f"clusters:\n  orders: {orders}\n  other: {{nodes: {{n: {{conninfo: 'host=127.0.0.1 port=1'}}}}}}\n"
        )
        async with exporting(lambda: load(file)) as (client, _):
            answer = await client.get("/sd")
            assert (answer.status, await answer.text()) == (503, "Patroni has not been asked about all clusters yet.\n")
            await until(lambda: has_members(client, 1))
            assert await names(client) == ["n"]
            api.answer = None
            await until(lambda: has_members(client, 3))


async def test_a_scrape_never_waits_for_patroni(databases: Stack, tmp_path: Path) -> None:
    api = Api({"members": real(databases)}, None)
    async with apis(api) as urls:
        file = written(
            tmp_path, f"{{urls: {json.dumps(urls)}, interval: 50ms}}", f"dbname=postgres user={EXPORTER_ROLE}"
        )
        async with exporting(lambda: load(file)) as (client, _):
            await until(lambda: has_members(client, 2))
            api.answer, asked = hang, api.asked
            await until(lambda: polled_again(api, asked))
            # It hangs now, for three seconds; a scrape meanwhile is complete.
            metrics = await get_metrics(client, "/metrics")
            assert metrics.value("pgslot_patroni_up", cluster="orders") == 1
            assert len(metrics.found("pgslot_up")) == 2


async def has_members(client: TestClient[Any, Any], count: int) -> bool:
    return len(await names(client)) == count


async def polled_again(api: Api, before: int) -> bool:
    return api.asked > before


async def test_a_reload_polls_the_new_urls(tmp_path: Path) -> None:
    """A cluster with the same `patroni` keeps its members; with another one it starts without."""
    first, second = Api(), Api({"members": [{"name": "c", "host": "10.0.0.3"}]})
    async with apis(first, second) as urls:
        file = written(tmp_path, f"{{urls: [{urls[0]}], interval: 50ms}}")
        async with exporting(lambda: load(file)) as (client, configuration):
            await until(lambda: has_members(client, 2))
            written(tmp_path, f"{{urls: [{urls[1]}], interval: 50ms}}")
            assert await configuration.reload() is None
            await until(lambda: has_members(client, 1))
            assert await names(client) == ["c"]
            written(tmp_path, "[]")
            assert await configuration.reload() is not None
            assert await names(client) == ["c"]
            file.write_text("clusters: {orders: {nodes: {n: {conninfo: 'host=127.0.0.1 port=1'}}}}")
            assert await configuration.reload() is None
            assert await names(client) == ["n"]
            assert (await get_metrics(client, "/metrics")).found("pgslot_patroni_up") == []
            await until(no_polls)


async def no_polls() -> bool:
    return all(task.get_name() != "members of orders" for task in asyncio.all_tasks())


async def test_tls_uses_the_configured_authority_and_client_certificate(tmp_path: Path) -> None:
    """With `verify_client: required` Patroni requires a client certificate for GET as well."""
    files = folder(tmp_path)
    server, client = files.issue(files.ours, "patroni", "127.0.0.1"), files.issue(files.ours, "client", "eyes")
    files.ours.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(server, server.with_suffix(".key"))
    async with apis(Api(), tls=context) as urls:
        trusting = f"urls: {json.dumps(urls)}, ca_file: ca.pem"
        cases = {
            f"{{{trusting}, cert_file: {client.name}, key_file: {client.stem}.key}}": "",
            f"{{{trusting}}}": "https://127.0.0.1",
            json.dumps(urls): "certificate verify failed",
            f"{{{trusting}, cert_file: nowhere, key_file: nowhere}}": "No such file",
        }
        for patroni, why in cases.items():
            _, errors = await discover_once(load(written(tmp_path, patroni)))
            assert bool(errors) == bool(why), errors
            assert why.lower() in errors.get("orders", "").lower()


async def test_members_do_not_count_as_a_change_of_the_configuration(tmp_path: Path) -> None:
    api = Api()
    async with apis(api) as urls:
        config = load(written(tmp_path, json.dumps(urls)))
        configuration = ConfigReloader(lambda: config, config)
        discovery = Discovery(configuration)
        published: list[Config] = []
        discovery.on_change(published.append)
        runs = discovery.run()
        await anext(runs)
        await until_true(lambda: bool(published), "Patroni has answered")
        before, after = config.clusters[0], published[-1].clusters[0]
        assert (len(before.nodes), len(after.nodes)) == (0, 2)
        again = discovery.config.clusters[0]
        assert again.as_configured == replace(after, nodes=(), system_identifier=None)
        with pytest.raises(StopAsyncIteration):
            await anext(runs)

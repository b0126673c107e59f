"""/sd sends Prometheus to this exporter and nowhere else, also behind a proxy."""

from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from exporter.service_discovery import ExporterAddress, address_of_request, parse_external_url
from pgslot.cli.errors import ConfigError
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerSettings, Node
from pgslot.config.reload import ConfigReloader
from tests.support import in_process

CONFIG = Config((Cluster("c", (Node("c", "n", Conninfo("port=1")),), None),), HealerSettings())


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://exporter:9877", ExporterAddress("http", "exporter:9877")),
        ("https://pgslot.example.com/", ExporterAddress("https", "pgslot.example.com")),
        ("https://example.com/pg/slots/", ExporterAddress("https", "example.com", "/pg/slots")),
        ("http://[2001:db8::1]:9877", ExporterAddress("http", "[2001:db8::1]:9877")),
    ],
)
def test_external_url_becomes_the_address_of_targets(url: str, address: ExporterAddress) -> None:
    assert parse_external_url(url) == address


@pytest.mark.parametrize(
    "url",
    ["", "exporter:9877", "ftp://a", "http://", "http://u:p@a", "http://a?x", "http://a/#x", "http://[::1", "//a"],
)
def test_invalid_external_url_is_an_error_that_says_what_was_expected(url: str) -> None:
    with pytest.raises(ConfigError, match=r"--web\.external-url: expected an http or https URL"):
        parse_external_url(url)
    done = in_process.run("pg-slot-exporter", "--conninfo=", f"--web.external-url={url}", "--check")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("host", ["u:p@evil", "evil/x", "evil?x", "a b", "", "evil#", "[::1]x", "a\r\nb"])
def test_host_that_would_lead_elsewhere_is_refused(host: str) -> None:
    assert address_of_request("http", host) is None


async def targets(address: ExporterAddress | None, host: str) -> list[dict[str, Any]]:
    """Return the target groups; empty if the request is refused with 400."""
    app = application(ConfigReloader(lambda: CONFIG, CONFIG), external_address=address)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/sd", headers={"Host": host})
        groups: list[dict[str, Any]] = await answer.json() if answer.status == 200 else []
        assert answer.status == (200 if groups else 400)
        return groups


async def test_targets_have_the_external_address_whatever_the_host() -> None:
    [group] = await targets(ExporterAddress("https", "example.com", "/pg"), "evil@169.254.169.254")
    assert group["targets"] == ["example.com"]
    assert group["labels"]["__scheme__"] == "https"
    assert group["labels"]["__metrics_path__"] == "/pg/probe"


async def test_without_it_targets_have_the_host_that_prometheus_asked() -> None:
    [group] = await targets(None, "exporter:9877")
    assert (group["targets"], group["labels"]["__metrics_path__"]) == (["exporter:9877"], "/probe")
    assert await targets(None, "u:p@evil/x") == []

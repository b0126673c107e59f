"""What `why` says of the way of a slot's alerts: each row of the second table in docs/how-to/why-it-did-not-act.md."""

import ast
import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from healer.doctor.alert_path import AlertPath, Arrived, FiredAlert, explain_path
from healer.doctor.checks.receivers import Destination
from healer.why import Verdict
from tests.support import in_process
from tests.support.running_healer import alert, healing
from tests.support.why_table import PATH_ROWS

NOW = 1_800_000_000.0
SINCE = NOW - 3600.0
LABELS = {
    "alertname": "PgSlotCreationStuck",
    "heal": "log_standby_snapshot",
    "cluster": "c",
    "node": "n",
    "slot_name": "s",
}
FIRES = FiredAlert(LABELS, NOW - 600, NOW - 5)
HERE, ELSEWHERE, HIDDEN = (
    {name: destination}
    for name, destination in (
        ("healer", Destination.HEALER),
        ("people", Destination.ELSEWHERE),
        ("hook", Destination.UNKNOWN),
    )
)
ASKED = AlertPath(prometheus="", alertmanager="")
CAME = Arrived("PgSlotCreationStuck", "n", "c", NOW - 590)


@pytest.mark.parametrize(
    ("path", "arrived", "start", "verdict"),
    [
        (replace(ASKED, alerts=(replace(FIRES, listed=True, destinations=ELSEWHERE),)), (),
         "it is not routed here: Alertmanager sends it only to", Verdict.NOT_ACTED),
        (replace(ASKED, alerts=(replace(FIRES, listed=True, destinations=HIDDEN),)), (),
         "nothing proves that it is routed to this healer", Verdict.UNKNOWN),
        (replace(ASKED, alerts=(replace(FIRES, listed=True, destinations=HERE | ELSEWHERE),)), (),
         "and did not arrive: it waits for its group", Verdict.NOT_ACTED),
        (replace(ASKED, alerts=(replace(FIRES, listed=False, destinations=HERE),)), (),
         "but Alertmanager does not have it", Verdict.NOT_ACTED),
        (replace(ASKED, alerts=(replace(FIRES, listed=True, muted="silenced (by 7)", destinations=HERE),)), (),
         "but Alertmanager does not send it", Verdict.NOT_ACTED),
        (replace(ASKED, alertmanager=None, alerts=(FIRES,)), (), "and did not reach this healer", Verdict.NOT_ACTED),
        (replace(ASKED, alertmanager=None, alerts=(FIRES,)), (),
         "where Alertmanager sends the alerts is not known", Verdict.NOT_ACTED),
        (replace(ASKED, alerts=(FIRES,)), (CAME,), "and reached this healer", None),
        (replace(ASKED, alerts=(replace(FIRES, labels=LABELS | {"heal": ""}),)), (),
         "it is for people, as it lacks the label heal", Verdict.WELL),
        (replace(ASKED, alerts=(replace(FIRES, first_at=SINCE - 60, destinations=HERE),)), (),
         "whether it arrived before", Verdict.UNKNOWN),
        (ASKED, (), "Prometheus: no alert about this slot has fired", Verdict.WELL),
        (replace(ASKED, prometheus="no answer"), (), "whether other alerts fired is not known", None),
        (replace(ASKED, prometheus=None), (), "whether other alerts fired is not known", None),
        (replace(ASKED, alertmanager="no answer"), (), "where Alertmanager sends the alerts is not known",
         Verdict.WELL),
    ],
)  # fmt: skip
def test_sentence_of_each_way_that_an_alert_took(
    path: AlertPath, arrived: tuple[Arrived, ...], start: str, verdict: Verdict | None
) -> None:
    given, sentences = explain_path(path, arrived, SINCE, NOW)
    [row] = [words for words in PATH_ROWS if words.startswith(start)]
    assert any(row in sentence.text for sentence in sentences), sentences
    assert given is verdict


@pytest.mark.parametrize("words", PATH_ROWS)
def test_row_of_the_table_is_produced_by_a_test(words: str) -> None:
    nodes = ast.walk(ast.parse(Path(__file__).read_text("utf-8")))
    texts = [node.value for node in nodes if isinstance(node, ast.Constant)]
    assert any(isinstance(text, str) and len(text) > len("short") and words.startswith(text) for text in texts)


@pytest.mark.parametrize(
    ("came", "arrived"),
    [
        (CAME, True),
        (replace(CAME, last_at=FIRES.first_at or 0.0), True),
        # An earlier firing of the same alert.
        (replace(CAME, last_at=NOW - 1200), False),
        (replace(CAME, node="other"), False),
        (replace(CAME, cluster="other"), False),
        (replace(CAME, alertname="PgSlotStalled"), False),
    ],
)
def test_alert_has_arrived_if_this_firing_of_it_has(came: Arrived, *, arrived: bool) -> None:
    _, [sentence] = explain_path(replace(ASKED, alerts=(FIRES,)), (came,), SINCE, NOW)
    assert ("reached this healer" in sentence.text and "did not" not in sentence.text) is arrived


def test_healer_that_gives_no_answer_leaves_open_whether_an_alert_arrived() -> None:
    verdict, [sentence] = explain_path(replace(ASKED, alerts=(replace(FIRES, destinations=HERE),)), (), None, NOW)
    assert verdict is Verdict.UNKNOWN
    assert sentence.text.endswith("whether it arrived is not known, as the healer gives no answer")


def series(labels: Mapping[str, str], at: float) -> dict[str, Any]:
    return {"metric": {"alertstate": "firing", **labels}, "value": [NOW, str(at)]}


ROUTING = {
    "route": {"receiver": "people", "routes": [{"matchers": ["heal=log_standby_snapshot"], "receiver": "hook"}]},
    "receivers": [{"name": "people"}, {"name": "hook", "webhook_configs": [{"url": "http://elsewhere/hooks"}]}],
}


@asynccontextmanager
async def monitoring(listed: list[dict[str, Any]], fired: list[dict[str, Any]]) -> AsyncIterator[str]:
    """Serve the answers of a Prometheus and an Alertmanager at one URL."""
    asked: list[str] = []

    async def query(request: web.Request) -> web.Response:
        asked.append(request.query["query"])
        return web.json_response({"status": "success", "data": {"result": fired}})

    async def alerts(request: web.Request) -> web.Response:
        assert request.query["filter"] == 'slot_name="s"'
        return web.json_response(listed)

    async def status(_: web.Request) -> web.Response:
        return web.json_response({"config": {"original": yaml.safe_dump(ROUTING)}})

    app = web.Application()
    app.add_routes(
        [web.get("/api/v1/query", query), web.get("/api/v2/alerts", alerts), web.get("/api/v2/status", status)]
    )
    async with TestServer(app) as server:
        yield str(server.make_url("/"))
    assert [text.partition("(")[0] for text in asked] == ["min_over_time", "max_over_time"]
    assert all('slot_name="s",cluster="c"' in text for text in asked)


async def test_command_follows_an_alert_that_is_routed_elsewhere() -> None:
    listed = [{"labels": LABELS, "status": {"silencedBy": []}, "fingerprint": "f"}]
    async with healing() as healer, monitoring(listed, [series(LABELS, time.time())]) as url:
        await healer.post(alert("other"))
        done = await why(str(healer.client.make_url("/")), url, "--cluster=c")
    assert done.returncode == 1
    assert "the way from Prometheus to this healer:" in done.stdout
    assert "it is not routed here: Alertmanager sends it only to hook" in done.stdout


async def why(healer_url: str, url: str, *arguments: str) -> CompletedProcess[str]:
    flags = (f"--healer.url={healer_url}", f"--prometheus.url={url}", f"--alertmanager.url={url}")
    return await asyncio.to_thread(in_process.run, "pg-slot-healer", "why", "s", *flags, *arguments)

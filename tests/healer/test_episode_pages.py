"""Past episodes come in pages, as JSON and on the status page."""

import asyncio
import gc
import json
import time

import pytest
from yarl import URL

from healer.app import PAGE
from healer.episodes.manager import MAX_PAST_EPISODES, EpisodeManager
from healer.episodes.report import MAX_RESULTS, Report, SlotResult
from healer.remedies.attempt import Capability, Unavailable
from healer.remedies.base import BudgetLimit
from healer.remedies.progress import Outcome
from healer.remedies.slot_state import SlotKey
from healer.status_page import ClusterStatus, Surroundings, status_page
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, HealerConfig, Node
from tests.support.pages import problems
from tests.support.running_healer import healing

NOWHERE = Conninfo("host=127.0.0.1 port=1 user=x")
CLUSTER = Cluster("c", (Node("c", "standby", NOWHERE),), HealerConfig(NOWHERE, enabled=True, dry_run=False))


def past_episodes() -> list[Report]:
    """Return as many as are kept, of 1,000 slots each, the newest first."""
    reports = []
    for i in reversed(range(MAX_PAST_EPISODES)):
        report = Report("c", "log_standby_snapshot", time.time())
        report.conclude(1.0, ("resolved_itself", f"{i}"))  # type: ignore[arg-type]
        report.subjects.extend(SlotKey("n", f"slot_{k}") for k in range(1000))
        reports.append(report)
    return reports


async def test_past_episodes_come_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = past_episodes()
    monkeypatch.setattr(EpisodeManager, "reports", property(lambda _: reports))
    async with healing(CLUSTER) as healer:
        reasons: list[str] = []
        path = "/episodes"
        while path:
            answer = await healer.client.get(path)
            page = await answer.json()
            assert len(page) <= PAGE
            reasons += [episode["why"] for episode in page]
            path = URL(answer.links["next"]["url"]).path_qs if "next" in answer.links else ""
        assert reasons == [str(i) for i in reversed(range(MAX_PAST_EPISODES))]
        assert len(await (await healer.client.get("/episodes?limit=1&offset=3")).json()) == 1
        for bad in ("limit=0", "limit=1000", "offset=-1", "offset=x"):
            assert (await healer.client.get(f"/episodes?{bad}")).status == 400
        first = await (await healer.client.get("/")).text()
        assert first.count("<details") == PAGE
        assert f"?offset={PAGE}" in first
        assert (await (await healer.client.get(f"/?offset={MAX_PAST_EPISODES - 1}")).text()).count("Older") == 0


HOSTILE = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>"
"""What a client may choose as its application_name, which the timeline and the outcome show."""


def test_status_page_is_accessible_and_shows_every_value_as_text() -> None:
    report = Report(HOSTILE, HOSTILE, time.time())
    report.subjects.append(SlotKey(HOSTILE, HOSTILE))
    report.add_alert(HOSTILE, "")
    report.append(1.0, f"a transaction of {HOSTILE} is open")
    ended = Report("c", "log_standby_snapshot", time.time())
    ended.conclude(1.0, (Outcome.NO_EFFECT, HOSTILE))
    cluster = ClusterStatus(
        name=HOSTILE,
        remedy=HOSTILE,
        plan=HOSTILE,
        capability=Capability(Unavailable.MISSING_PRIVILEGE, HOSTILE, HOSTILE),
        calls_left=1,
        limit=BudgetLimit(per_hour=500, at_start=50),
        dry_run=False,
        fallback=False,
    )
    page = status_page(Surroundings(0.0, HOSTILE, None), [cluster], [report, ended], 20)
    assert problems(page) == []
    assert page.count("&lt;script&gt;") >= 9


async def test_webhook_does_not_wait_for_a_large_page_of_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two reports of a page other requests are answered: no turn of the event loop does the whole page."""
    reports = past_episodes()
    for report in reports:
        report.slots.extend(
            SlotResult("n", f"slot_{k}", Outcome.RESOLVED_ITSELF, "usable without a call", 1.0, 1, None)
            for k in range(MAX_RESULTS)
        )
    monkeypatch.setattr(EpisodeManager, "reports", property(lambda _: reports))
    turns: list[float] = []

    async def watch_turns() -> None:
        before = time.process_time()
        while True:
            await asyncio.sleep(0)
            now = time.process_time()
            turns.append(now - before)
            before = now

    async with healing(CLUSTER) as healer:
        # A collection of what the tests before have left would be a turn of its own.
        gc.disable()
        try:
            watching = asyncio.create_task(watch_turns())
            body = await (await healer.client.get("/episodes?limit=20")).read()
            watching.cancel()
        finally:
            gc.enable()
    assert len(json.loads(body)) == PAGE
    assert max(turns) < sum(turns) / 5

"""Past episodes come in pages, as JSON and on the status page."""

import time

import pytest
from yarl import URL

from healer.app import PAGE
from healer.episodes.manager import MAX_PAST_EPISODES, EpisodeManager
from healer.episodes.report import Report
from healer.remedies.slot_state import SlotKey
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, HealerConfig, Node
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

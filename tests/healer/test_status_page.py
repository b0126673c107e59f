"""The status page as a pure function of clusters and episodes."""

import re
import time
from dataclasses import replace

import pytest

from healer.episodes.report import MAX_ALERT_NAMES, Report
from healer.remedies.attempt import Capability, Unavailable
from healer.remedies.base import BudgetLimit
from healer.remedies.force_snapshot.statements import PrimaryFacts, judge
from healer.remedies.progress import Outcome
from healer.remedies.slot_state import SlotKey
from healer.status_page import ClusterStatus, Surroundings, duration, status_page
from healer.webhook.payload import Alert, runbook_url
from healer.webhook.reconcile import AlertmanagerStatus

CLUSTER = ClusterStatus(
    name="orders",
    remedy="log_standby_snapshot",
    plan="pg_log_standby_snapshot() on the primary",
    capability=Capability(None),
    calls_left=500,
    limit=BudgetLimit(per_hour=500, at_start=50),
    dry_run=False,
    fallback=False,
)


CALM = Surroundings(time.time(), None, AlertmanagerStatus(up=True, since=time.time() - 100))


def text_of(*clusters: ClusterStatus, episodes: tuple[Report, ...] = (), surroundings: Surroundings = CALM) -> str:
    """Return the page's text in one line, without tags."""
    return " ".join(
        re.sub(
            r"<[^>]+>", "", status_page(surroundings, clusters, episodes, None).split("<main>")[1].split("</main>")[0]
        ).split()
    )


def episode(outcome: Outcome | None = None, **fields: object) -> Report:
    report = Report("orders", "log_standby_snapshot", time.time() - 75, outcome=outcome)
    report.subjects.append(SlotKey("orders-2", "cdc"))
    return replace(report, **fields)  # type: ignore[arg-type]


def test_cluster_says_what_the_remedy_does_and_how_many_calls_of_how_many_are_left() -> None:
    page = text_of(CLUSTER)
    assert "orders can heal Remedy log_standby_snapshot: pg_log_standby_snapshot() on the primary." in page
    assert "500 of 500 calls per hour left." in page
    started = text_of(replace(CLUSTER, calls_left=63))
    assert "63 of 500 calls per hour left (a healer starts with 50; an hour without calls restores" in started


def test_grant_can_be_selected_without_the_words_around_it() -> None:
    facts = PrimaryFacts(
        in_recovery=False,
        version_num=180000,
        wal_level="logical",
        has_function=True,
        may_execute=False,
        database="shop",
        role="pgslot_healer",
    )
    capability = judge(facts)
    page = status_page(CALM, [replace(CLUSTER, capability=capability)], [], None)
    assert "<p>In database &#34;shop&#34;:</p>" in page
    [selected] = re.findall('<code class="statement">(.*)</code>', page)
    assert selected.startswith("GRANT EXECUTE ON FUNCTION")
    assert selected.endswith("TO &#34;pgslot_healer&#34;;")


def test_deliberate_switch_and_dry_run_do_not_read_as_faults() -> None:
    off = Capability(Unavailable.DISABLED, "enabled: false in the configuration (CHG-7).")
    page = status_page(CALM, [replace(CLUSTER, capability=off)], [], None)
    assert '<span class="off">switched off</span>' in page
    assert 'class="bad"' not in page
    assert "switched off enabled: false in the configuration (CHG-7)." in text_of(replace(CLUSTER, capability=off))
    assert "can heal dry run: calls nothing" in text_of(replace(CLUSTER, dry_run=True))


def test_episode_names_slot_and_node_and_how_long_ago_it_began() -> None:
    healed = episode(Outcome.HEALED, why="usable after our call", calls=1, heal_seconds=0.003)
    page = text_of(CLUSTER, episodes=(healed,))
    assert re.search(r"orders healed cdc on orders-2 log_standby_snapshot, began 1 min 1\d s ago \(2\d{3}-", page)
    assert "1 call, healed 3 ms after the first call" in page


def test_episode_links_to_the_runbooks_of_its_alerts() -> None:
    report = episode()
    report.add_alert("PgSlotCreationStuck", "https://pgslot.example.com/runbooks/PgSlotCreationStuck")
    report.add_alert("Other", "")
    for i in range(50):
        report.add_alert(f"Name{i}", "")
    page = status_page(CALM, [CLUSTER], [report], None)
    link = '<a href="https://pgslot.example.com/runbooks/PgSlotCreationStuck">PgSlotCreationStuck</a>, Other, Name0'
    assert link in page
    assert len(report.alerts) == MAX_ALERT_NAMES


@pytest.mark.parametrize(
    ("annotations", "url"),
    [
        ({"runbook_url": "https://a/runbooks/X"}, "https://a/runbooks/X"),
        ({"runbook_url": "javascript:alert(1)"}, ""),
        ({"runbook_url": "http://" + "a" * 5000}, ""),
        ({"runbook_url": 3}, ""),
        ({"runbook_url": "http://a/\ud800"}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_only_web_addresses_become_links(annotations: object, url: str) -> None:
    assert runbook_url(annotations) == url


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"),
        (0.003, "3 ms"),
        (0.9996, "1.0 s"),
        (4.05, "4.0 s"),
        (75, "1 min 15 s"),
        (3600, "1 h 0 min"),
        (90061, "1 d 1 h"),
    ],
)
def test_duration_is_in_units_that_fit_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_failed_reload_shows_until_a_reload_succeeds() -> None:
    failed = replace(CALM, loaded_at=0.0, reload_error="pgslot.yml:9: clusters: expected <nodes>, found 'node'")
    page = text_of(surroundings=failed)
    assert "Configuration the last reload failed pgslot.yml:9: clusters: expected &lt;nodes&gt;, found" in page
    assert "The configuration of 1970-01-01 00:00:00 UTC stays in effect." in page
    assert "reload failed" not in text_of()


@pytest.mark.parametrize(
    ("alertmanager", "expected"),
    [
        (None, "Alertmanager is not queried Without alertmanager_url"),
        (AlertmanagerStatus(up=None, since=0.0), "Alertmanager has not answered yet"),
        (AlertmanagerStatus(up=True, since=0.0, alerts=1), "answers It lists 1 firing alert for the healer."),
        (
            # The text changes after an hour: the test may run long after this line is read.
            AlertmanagerStatus(up=False, since=time.time() - 12.5 * 86400, error="TimeoutError: no answer in 5 s"),
            "Alertmanager has given no valid answer for 12 d 12 h TimeoutError: no answer in 5 s",
        ),
    ],
)
def test_page_shows_how_alertmanager_answers(alertmanager: AlertmanagerStatus | None, expected: str) -> None:
    assert expected in text_of(surroundings=replace(CALM, alertmanager=alertmanager))


def test_silenced_and_inhibited_alerts_are_named_and_bounded() -> None:
    labels = {"alertname": "PgSlotStalled", "cluster": "orders", "node": "orders-2", "slot_name": "cdc"}
    muted = tuple((Alert(True, labels, f"{n}"), "silenced (by 1234)") for n in range(23))
    status = AlertmanagerStatus(up=True, since=0.0, alerts=30, muted=muted)
    page = text_of(surroundings=replace(CALM, alertmanager=status))
    assert "30 firing alerts for the healer, 23 of them silenced or inhibited: the healer does not act on them." in page
    assert page.count("PgSlotStalled cdc on orders/orders-2: silenced (by 1234)") == 20
    assert "and 3 more" in page

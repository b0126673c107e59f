"""The landing page: the slots, each node's state from its last snapshot, and what each runbook is about."""

import re

import pytest

from exporter.landing import MAX_SLOTS, landing
from exporter.latest_look import ClusterLook
from exporter.runbook_list import alert_summaries
from pgslot.snapshot.model import NodeSnapshot, QueryStatus
from tests.support.alert_rules import ALERT_RULES
from tests.support.builders.pages import CONFIG, look_at
from tests.support.builders.snapshots import SLOT, node, unreachable_node
from tests.support.pages import text_of

OTHER = SLOT._replace(slot_name="other")
LOST = SLOT._replace(slot_name="gone", wal_status="lost", invalidation_reason="wal_removed")
LARGE = SLOT._replace(slot_name="large", retained_wal_bytes=10**9, unconfirmed_wal_bytes=10**9)


def page_of(*nodes: NodeSnapshot) -> str:
    return landing(CONFIG, [look_at(*nodes)], lifecycle=False)


def with_status(query: str, status: QueryStatus) -> NodeSnapshot:
    snapshot = node("n", recovery=False)
    snapshot.statuses[query] = status
    return snapshot


@pytest.mark.parametrize(
    ("snapshot", "state"),
    [
        (None, "not scraped yet"),
        (node("n", recovery=False), "primary, PostgreSQL 18.6 3 s ago"),
        (node("n", recovery=True), "standby, PostgreSQL 18.6 3 s ago"),
        (unreachable_node("n"), "unreachable 3 s ago"),
        (
            with_status("slots", QueryStatus.PERMISSION_DENIED),
            "primary, PostgreSQL 18.6 slots: permission_denied 3 s ago",
        ),
    ],
)
def test_node_has_its_state_from_the_last_scrape(snapshot: NodeSnapshot | None, state: str) -> None:
    [row] = re.findall("<td>c<td>n<td>(.*?)<td>", page_of(*[] if snapshot is None else [snapshot]))
    assert re.sub("<[^>]+>", "", row) == state


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([], "No slot is known."),
        ([unreachable_node("n")], "No slot is known; 1 node could not be seen in full."),
        ([node("n", recovery=False, slots=(SLOT,))], "The only slot needs nobody."),
        ([node("n", recovery=False, slots=(SLOT, OTHER))], "None of 2 slots needs a person."),
        ([node("n", recovery=False, slots=(SLOT, LOST))], "1 of 2 slots needs a person."),
        (
            [node("n", recovery=False, slots=(SLOT, LOST, LARGE))],
            "1 of 3 slots needs a person; 1 is not explained yet.",
        ),
    ],
)
def test_summary_counts_slots_and_nodes(nodes: list[NodeSnapshot], expected: str) -> None:
    assert f'<p id="summary" role="status">{expected}</p>' in page_of(*nodes)


def test_no_slot_is_not_claimed_of_a_node_that_did_not_answer() -> None:
    assert "No slot is known: no node has answered yet." in page_of(unreachable_node("n"))
    assert "There is no slot." in page_of(node("n", recovery=False))


def test_lost_slot_comes_first_with_what_to_do_and_its_runbook() -> None:
    page = page_of(node("n", recovery=False, slots=(SLOT, LOST)))
    assert re.findall('<td role="cell"><a href="(.*?)">(.*?)</a>', page) == [
        ("slots/c/n/gone", "gone"),
        ("slots/c/n/s", "s"),
    ]
    assert "critical LOST retained more WAL than max_slot_wal_keep_size allows" in text_of(page)
    assert page.count('href="runbooks/PgSlotLost"') == 3, "in the row, below the advice, in the list"
    assert "Drop the lost slot: it does not come back, and its name blocks a new slot (on n): SELECT" in text_of(page)
    assert "<title>(1) pg-slot-exporter</title>" in page


def test_page_is_bounded_and_says_how_much_it_leaves_out() -> None:
    slots = tuple(SLOT._replace(slot_name=f"s{i}", active=False) for i in range(MAX_SLOTS + 50))
    page = page_of(node("n", recovery=False, slots=slots))
    assert page.count('id="slot/') == MAX_SLOTS
    assert "And 50 more, which are no worse than these." in page
    assert page.count('id="do/') == 20


def test_runbooks_are_listed_by_severity_with_what_the_alert_says() -> None:
    page = page_of()
    items = re.findall('<li><a href="runbooks/[^>]+>(.*?)</a>: (.*?)</li>', page)
    assert {name for name, _ in items} == set(ALERT_RULES)
    assert all(summary.endswith(".") and "{{" not in summary for _, summary in items)
    assert re.findall("<h3>(.*?)</h3>", page) == ["Critical", "Warning", "Info"]
    critical = page.partition("<h3>Critical</h3>")[2].partition("<h3>")[0]
    expected = {name for name, rule in ALERT_RULES.items() if rule["labels"]["severity"] == "critical"}
    assert set(re.findall(r">(PgSlot\w+)</a>", critical)) == expected


def test_each_shipped_alert_has_its_summary() -> None:
    assert alert_summaries().keys() == ALERT_RULES.keys()


def test_address_of_a_slot_is_quoted() -> None:
    odd = ClusterLook(look_at().snapshot, {}, look_at(node("a/b?", recovery=False, slots=(SLOT,))).slots)
    assert 'href="slots/c/a%2Fb%3F/s"' in landing(CONFIG, [odd], lifecycle=False)

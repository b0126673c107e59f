"""The incident that led to this project, from beginning to end: what was shown and done at each step."""

from collections.abc import Iterator

import pytest

from tests.simulations.seed_incident.incident import APPLICATION, KEEP_MIB, LOST, MADE, THRESHOLDS, Story, run_incident
from tests.simulations.seed_incident.page import page, picture
from tests.support.incidents import MEBIBYTE
from tests.support.servers.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with Stack(thresholds=THRESHOLDS) as stack:
        yield run_incident(stack)


def test_warnings_precede_the_loss_in_order(story: Story) -> None:
    steps = (
        "begin",
        "PgSlotPinnedByTransaction",
        "PgSlotWalHeadroomLow",
        "lost",
        "PgSlotLost",
        "named",
        "ended",
        "made",
    )
    assert [story.at[step] for step in steps] == sorted(story.at[step] for step in steps)
    assert story.at["PgSlotLossPredicted"] < story.at["lost"]


def test_transaction_is_named_in_alerts_and_metrics(story: Story) -> None:
    assert f"pid {story.holder}" in story.descriptions["PgSlotPinnedByTransaction"]
    assert f"pid {story.holder}" in story.descriptions["PgSlotCreationBlocked"]
    assert (story.blocker_labels["pid"], story.blocker_labels["application_name"]) == (str(story.holder), APPLICATION)


def test_healer_makes_no_call_and_claims_no_success(story: Story) -> None:
    assert (story.heal["outcome"], story.heal["calls"]) == ("resolved_itself", 0)
    assert [subject["slot_name"] for subject in story.heal["subjects"]] == [MADE]


def test_prometheus_series_show_the_incident(story: Story) -> None:
    retained = [value for at, value in story.series["retained"] if story.at["begin"] < at < story.at["lost"]]
    assert retained[-1] > 3 * retained[0]
    assert min(value for _, value in story.series["left"]) < KEEP_MIB / 20 * MEBIBYTE
    assert story.series["waits"][-1][1] > 5
    assert max(value for _, value in story.series["transaction"]) >= story.at["ended"] - story.at["begin"] - 5


def test_page_describes_the_incident(story: Story) -> None:
    html = page(story, "picture.svg")
    assert LOST in html
    assert f"pg_terminate_backend({story.holder})" in html
    svg = picture(story)
    assert svg.count("<polyline") == 4
    assert svg.endswith("</svg>\n")

"""When an exporter that is scraped every 15, 30 or 60 s shows a transaction that pins a slot: by the model."""

import re

import pytest

from tests.support.paths import ROOT
from tests.support.pinned_slots import INTERVALS, certainly_shown, phases, pinned_for, shown_after

pytestmark = pytest.mark.simulation

PAGE = ROOT / "docs/reference/what-is-shown.md"


@pytest.mark.parametrize("interval", INTERVALS)
def test_page_says_what_each_scrape_interval_shows(interval: int) -> None:
    row = f"| {interval} s | " + " | ".join((*shown_after(interval), certainly_shown(interval))) + " |"
    assert row in PAGE.read_text("utf-8"), row


@pytest.mark.parametrize("interval", INTERVALS)
def test_none_is_not_claimed_while_a_transaction_pins_many_times_the_usual_amount(interval: int) -> None:
    """From 45 s on, whichever moment the scrapes fall on; a healthy slot of this server pins 150 MB."""
    for phase in phases(interval):
        causes = {str(retention.cause) for at, retention in pinned_for(600, interval, phase) if 45 <= at < 600}
        assert causes <= {"unknown", "transaction"}


def test_page_has_a_row_for_each_interval() -> None:
    assert re.findall(r"^\| (\d+) s \|", PAGE.read_text("utf-8"), re.MULTILINE) == [f"{each}" for each in INTERVALS]

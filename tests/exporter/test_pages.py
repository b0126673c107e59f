"""The exporter's pages can be read in both colour schemes and used with a keyboard."""

from dataclasses import replace

import pytest

from exporter.landing import landing
from exporter.latest_look import ClusterLook
from exporter.runbooks import runbook, runbook_names
from exporter.slot_page import no_slot_page, slot_page
from pgslot.status.growth import HeldSample
from tests.support.builders.pages import CONFIG, look_at
from tests.support.builders.snapshots import CREATION, SLOT, TRANSACTION, node
from tests.support.pages import problems

HOSTILE = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>"
"""What a client may choose as its application_name, and a database's owner as its name."""


@pytest.mark.parametrize("name", runbook_names())
def test_runbook_is_accessible(name: str) -> None:
    page = runbook(name)
    assert page is not None
    assert problems(page) == []


def test_landing_page_is_accessible() -> None:
    assert problems(landing(CONFIG, [], lifecycle=True)) == []


def hostile_look() -> ClusterLook:
    """Return a slot in creation that a transaction blocks, and a lost one, with names that are HTML."""
    blocker = replace(TRANSACTION, application_name=HOSTILE, usename=HOSTILE, state=HOSTILE)
    creation = replace(CREATION, slot_name=HOSTILE, database=HOSTILE, application_name=HOSTILE, usename=HOSTILE)
    slots = (
        SLOT._replace(slot_name=HOSTILE, database=HOSTILE, in_creation=True, confirmed_position=None),
        SLOT._replace(slot_name=f"{HOSTILE}lost", wal_status="lost", invalidation_reason=HOSTILE),
    )
    rows = {"slots": slots, "creations": (replace(creation, blocking_pids=[200]),), "transactions": (blocker,)}
    return look_at(node("n", recovery=False, **rows))


def test_pages_show_every_value_as_text() -> None:
    look = hostile_look()
    samples = [HeldSample(0.0, 5), HeldSample(60.0, 10)]
    pages = [slot_page(look, slot, samples, [(HOSTILE, HOSTILE)]) for slot in look.slots]
    pages += [landing(CONFIG, [look], lifecycle=True), no_slot_page(HOSTILE)]
    for page in pages:
        assert problems(page) == []
        assert HOSTILE not in page
        assert "&lt;script&gt;alert(2)" in page
    assert len(look.slots) == 2
    assert all(page.count("&lt;script&gt;alert(2)") >= 5 for page in pages[:3])


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("<pre>", "<pre> may scroll and cannot be focused"),
        ('<div class="scroll">', "<div> may scroll and cannot be focused"),
        ("<table><tr><th>A<th></table>", "an empty <th>"),
        ("<script>", "<script>, which the Content-Security-Policy forbids"),
        ("<style>:root { --ground: #fff; --text: #aaa }", "text #aaa on ground #fff: contrast 2.3"),
        ("<title>x</title>", "<main> is there 0 times"),
    ],
)
def test_check_of_pages_finds_faults(page: str, problem: str) -> None:
    """Checks the checks above."""
    assert problem in problems(page)

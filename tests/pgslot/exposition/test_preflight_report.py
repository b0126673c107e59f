"""A preflight as people and scripts read it."""

import json

import pytest

from pgslot.diagnosis.preflight_model import Line, Preflight, Stage, Status, Wait
from pgslot.exposition.preflight_report import as_json, as_text, verdict
from tests.support.readme import block

LONG = "the creation waits until these transactions end: pid 30255, user billing, application importer, database shop"
SERVER = Line("server", Status.OK, "orders-1:5432 is a primary with PostgreSQL 18.6")
USER = Line(
    "user",
    Status.FAIL,
    "cdc does not have REPLICATION, without which it cannot create or use a slot",
    ('ALTER ROLE "cdc" REPLICATION;',),
    "the primary",
)
HOLDER = Line(
    "transactions",
    Status.WARNING,
    LONG,
    ("SELECT pg_catalog.pg_terminate_backend(30255); -- rolls it back: ask its owner first",),
    "orders-1:5432",
    wait=Wait.TRANSACTIONS,
)
RECORD = Line("record", Status.WARNING, "waits", wait=Wait.RECORD, at_most_seconds=70.0)
PUBLICATION = Line("publication", Status.FAIL, "missing", stage=Stage.CONSUMER)
UNSEEN = Line("pg_hba.conf", Status.UNKNOWN, "not tried")
DISK = Line("disk", Status.UNKNOWN, "not shown", stage=Stage.LATER)


def preflight(*lines: Line) -> Preflight:
    return Preflight("orders-1:5432", "shop", "cdc", "pgoutput", None, lines)


VERDICTS = [
    ((SERVER,), "A creation would work at once."),
    ((SERVER, DISK), "A creation would work at once."),
    (
        (SERVER, PUBLICATION),
        "A creation would work at once. Its consumer, or those who write to its tables, would fail:",
    ),
    ((USER, HOLDER), "A creation would fail: user."),
    (
        (HOLDER, RECORD, UNSEEN),
        "A creation would wait until these transactions end, then until the next running-xacts record (up to"
        " 1 min 10 s). Unknown: pg_hba.conf.",
    ),
    ((SERVER, UNSEEN), "What is known does not stand in the way of a creation. Unknown: pg_hba.conf."),
]


@pytest.mark.parametrize(("lines", "text"), VERDICTS)
def test_verdict_is_the_last_line(lines: tuple[Line, ...], text: str) -> None:
    assert verdict(preflight(*lines)).startswith(text)
    assert as_text(preflight(*lines)).splitlines()[-1] == verdict(preflight(*lines))


def test_lines_of_the_docs_are_what_is_printed() -> None:
    shown = block("A logical slot (pgoutput) in shop").text
    printed = as_text(preflight(SERVER, USER, HOLDER)).splitlines()
    assert printed[0] in shown
    # The docs have more checks, of which one has a longer name.
    for text in (SERVER.text, USER.text, *USER.fix, *HOLDER.fix, LONG, printed[-1]):
        assert text in shown


def test_texts_are_wrapped_for_a_terminal_and_statements_are_not() -> None:
    lines = as_text(preflight(HOLDER), width=80).splitlines()
    assert max(len(line) for line in lines if "pg_terminate_backend" not in line) <= 80
    assert any(line.endswith("ask its owner first") for line in lines)
    assert LONG in as_text(preflight(HOLDER))
    assert LONG in as_text(preflight(HOLDER), width=30)


def test_control_characters_of_names_do_not_reach_the_terminal() -> None:
    text = as_text(preflight(Line("transactions", Status.WARNING, "user \x1b[31mred", ("SELECT '\x07'",), "a")))
    assert "\x1b" not in text
    assert "\x07" not in text


def test_json_has_every_field() -> None:
    shown = json.loads(as_json(preflight(HOLDER, UNSEEN)))
    assert shown["outcome"] == "waits"
    assert shown["waits"] == [{"for": "transactions", "at_most_seconds": None}]
    assert (shown["fails"], shown["everything_known"]) == (False, False)
    assert shown["lines"][0] == {
        "check": "transactions",
        "status": "warning",
        "stage": "creation",
        "text": LONG,
        "fix": list(HOLDER.fix),
        "fix_on": "orders-1:5432",
        "wait": "transactions",
        "at_most_seconds": None,
    }

"""A rehearsal as people and scripts read it."""

import json

import pytest

from pgslot.cli.amounts import size
from pgslot.diagnosis.rehearsal_model import (
    Outcome,
    Problem,
    ProblemKind,
    Rehearsal,
    SlotOutcome,
    SlotReason,
    Unknown,
)
from pgslot.exposition.rehearsal_report import REASONS, as_json, as_text, sentence, summary
from tests.support.paths import ROOT

KEPT = SlotOutcome("cdc", "app", "logical", Outcome.GOES_ON, SlotReason.COPY, 1536)
LOST = SlotOutcome("reports", "app", "logical", Outcome.ENDS, SlotReason.NO_FAILOVER)
AHEAD = SlotOutcome("audit", "app", "logical", Outcome.OTHER_SLOT, SlotReason.NAME_TAKEN, 0, 2048)
BACKUP = SlotOutcome("backup", "", "physical", Outcome.ENDS, SlotReason.PHYSICAL)
GHOST = Problem(ProblemKind.STANDBY_SLOT_MISSING, "n2", ("ghost",))
LEFTOVER = Problem(ProblemKind.LEFTOVER, "n1", ("cdc",))
PRIVILEGE = Unknown("whether and how n3 streams", "a privilege: GRANT x TO y;")
WHOLE = Rehearsal("orders", "n1", "n2", (KEPT, LOST, AHEAD, BACKUP), (), (GHOST, LEFTOVER), (PRIVILEGE,))
GOOD = Rehearsal("orders", "n1", "n2", (KEPT,), (), (LEFTOVER,), ())

TEXT = """\
orders: a switchover from n1 to n2, as of now

Slots of n1:
  slot     database  afterwards  again    because
  cdc      app       goes on     1.5 KiB  its copy is kept in step
  reports  app       ENDS        -        it was created without failover, so that standbys keep no copy
  audit    app       OTHER SLOT  0 B      the standby has another slot of this name, \
which is ahead: 2.0 KiB of changes never arrive
  backup   physical  ENDS        -        physical slots are not copied

Afterwards:
  - synchronized_standby_slots of n2 names ghost, which n2 does not have: every consumer of a failover \
slot waits there, without an error. Correct the setting on n2 and reload it, or create the slots for standbys that \
will use them: SELECT pg_create_physical_replication_slot('ghost', true).

To do afterwards:
  - n1 keeps its slots cdc. As a standby it synchronises no slot until they are dropped there: \
SELECT pg_drop_replication_slot('cdc').

Unknown:
  - whether and how n3 streams: this takes a privilege: GRANT x TO y;

orders/n2: not everything goes on."""


def test_text_names_slots_problems_and_what_is_unknown() -> None:
    assert as_text([WHOLE]) == TEXT


@pytest.mark.parametrize(
    ("rehearsal", "last"),
    [
        (GOOD, "orders/n2: everything goes on."),
        (
            Rehearsal("orders", "n1", "n2", (KEPT,), (), (), (PRIVILEGE,)),
            "orders/n2: what is known goes on, and something is unknown.",
        ),
    ],
)
def test_last_line_is_the_verdict(rehearsal: Rehearsal, last: str) -> None:
    assert as_text([rehearsal]).splitlines()[-1] == last


def test_names_from_servers_cannot_steer_a_terminal() -> None:
    hostile = SlotOutcome("s", "a\x1b[31m", "logical", Outcome.GOES_ON, SlotReason.COPY, 0)
    assert "\x1b" not in as_text([Rehearsal("c", "p", "t", (hostile,), (), (), ())])


def test_json_has_what_the_reference_describes() -> None:
    [said] = json.loads(as_json([WHOLE]))
    reference = (ROOT / "docs/reference/rehearsal.md").read_text("utf-8")
    keys = {*said, *said["slots"][0], *said["problems"][0], *said["unknown"][0]}
    assert {key for key in keys if f"`{key}`" not in reference} == set()
    assert said["slots"][2] == {
        "slot_name": "audit",
        "database": "app",
        "slot_type": "logical",
        "outcome": "other_slot",
        "reason": "name_taken",
        "repeated_bytes": 0,
        "skipped_bytes": 2048,
        "text": "the standby has another slot of this name",
    }
    assert (said["everything_goes_on"], said["everything_known"]) == (False, False)
    assert [problem["phase"] for problem in said["problems"]] == ["after", "task"]


@pytest.mark.parametrize("value", [*Outcome, *SlotReason, *ProblemKind])
def test_reference_names_every_value(value: str) -> None:
    assert f"`{value}`" in (ROOT / "docs/reference/rehearsal.md").read_text("utf-8")


@pytest.mark.parametrize("kind", ProblemKind)
def test_every_problem_is_a_sentence_that_names_the_node_and_what_to_do(kind: ProblemKind) -> None:
    text = sentence(Problem(kind, "n2", ("x",), 3, 2))
    assert "n2" in text
    assert text.endswith(".")
    assert "None" not in text


def test_sentence_about_many_slots_stays_short() -> None:
    text = sentence(Problem(ProblemKind.LEFTOVER, "n1", tuple(f"s{number}" for number in range(1000))))
    assert "s8, s9, and 990 more. As" in text
    assert text.endswith("SELECT pg_drop_replication_slot('s9'); and 990 more.")


def test_every_reason_has_a_clause() -> None:
    assert set(REASONS) == set(SlotReason)


def test_summary_counts() -> None:
    assert summary(WHOLE) == "4 slots: 1 goes on, 1 meets another slot, 2 end"
    assert summary(Rehearsal("c", "p", "t", (), (), (), ())) == "no slots"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 1024**2, "5.0 MiB"), (3 * 1024**5, "3072.0 TiB")],
)
def test_size_has_a_unit(count: int, text: str) -> None:
    assert size(count) == text

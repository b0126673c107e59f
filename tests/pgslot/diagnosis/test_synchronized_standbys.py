"""Which slots the setting synchronized_standby_slots names."""

from dataclasses import replace

import pytest

from pgslot.diagnosis.synchronized_standbys import listed_slots
from tests.support.builders.snapshots import FACTS


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        ("", ()),
        ("a", ("a",)),
        ("a, b", ("a", "b")),
        ('"a",b', ("a", "b")),
        ("A , B_1", ("a", "b_1")),
        (" ", ()),
        # No released version accepts these: 17.10, 18.6 and 19rc1 refuse them.
        ("ANY 2 (a, b)", None),
        ("FIRST 1 (a, b)", None),
        ("2 (a, b)", None),
        ("any 1 (a)", None),
        ("a b", None),
        ("*", None),
        ('"a', None),
        ("a,", None),
    ],
)
def test_names_are_read_as_postgresql_reads_them(setting: str, names: tuple[str, ...] | None) -> None:
    assert listed_slots(replace(FACTS, synchronized_standby_slots=setting)) == names


def test_node_that_did_not_answer_lists_nothing() -> None:
    assert listed_slots(None) == ()

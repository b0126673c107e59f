"""What a preflight says of a creation is what the real creation then does, in each situation on 14 to 19."""

import pytest

from tests.preflights.situations import SITUATIONS, compare

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]


@pytest.mark.parametrize(
    "major", [pytest.param(major, marks=pytest.mark.xdist_group(f"preflights on {major}")) for major in SITUATIONS]
)
def test_what_a_preflight_says_is_what_the_creation_does(major: int) -> None:
    rows = compare(major).rows
    assert [row for row in rows if not row.agrees] == []
    assert len(rows) >= 4

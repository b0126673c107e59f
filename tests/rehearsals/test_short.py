"""In CI, on 18: a rehearsal, and the real switchover after it. `make rehearsals` plays all scenes on 17 to 19."""

import pytest

from tests.rehearsals.scenes import nothing_keeps_the_copy, play
from tests.support.servers.binaries import NEWEST

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]


def test_what_a_rehearsal_says_is_what_the_switchover_does() -> None:
    rows = play(nothing_keeps_the_copy, NEWEST).rows
    assert len(rows) == 4
    assert [row for row in rows if not row.agrees] == []

"""The healer's statement on the model's rows: nothing of the server that runs it has a part in its answer."""

import pytest

from healer.commands.grants import ENDER_ROLE, ender_script
from tests.simulations.terminations.act_statement import ActStatement
from tests.support.servers.stack import Stack

pytestmark = pytest.mark.simulation

ROW = "INSERT INTO pgslot.ended VALUES (now(), 1, 'batch', '', 'app', '7', now(), 's', 'a real healer ended it')"


def test_rows_that_healers_left_on_the_server_do_not_count(databases: Stack) -> None:
    """They did: after tests with real healers on the same server, the hour's limit refused each act of the model."""
    databases.primary.sql(ender_script(ENDER_ROLE))
    databases.primary.sql(ROW)
    try:
        with ActStatement(databases.primary.conninfo()) as statement:
            model = {"clock": "2026-01-01 00:00:00+00"}
            rows = statement.run("SELECT count(*) AS rows FROM pgslot.ended", [], model, [])
    finally:
        databases.primary.sql("DELETE FROM pgslot.ended")
    assert rows == {"rows": 0}

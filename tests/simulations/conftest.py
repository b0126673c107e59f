"""The fixture of the simulations in which sessions are ended."""

from collections.abc import Iterator

import pytest

from tests.simulations.terminations.act_statement import ActStatement
from tests.support.servers.stack import Stack


@pytest.fixture
def statement(databases: Stack) -> Iterator[ActStatement]:
    """The healer's own statement, on a real server and the model's rows."""
    with ActStatement(databases.primary.conninfo()) as act_statement:
        yield act_statement

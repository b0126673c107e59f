"""The fixtures that several test files share."""

from collections.abc import Iterator

import pytest

from tests.stack.stack import Stack


@pytest.fixture(scope="session")
def databases() -> Iterator[Stack]:
    """A primary and its standby, for all tests that need no more; each test leaves them without slots of its own."""
    with Stack() as stack:
        stack.start_databases()
        yield stack

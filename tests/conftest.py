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


@pytest.fixture(autouse=True)
def _no_leftovers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Clean up after a test that failed half-way, so that the next one starts on servers as it expects them."""
    stack = request.getfixturevalue("databases") if "databases" in request.fixturenames else None
    yield
    if stack is not None:
        for server in (stack.primary, stack.standby):
            server.reset()

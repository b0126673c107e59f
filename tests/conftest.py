"""The fixtures that several test files share."""

import shutil
import signal
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from pgslot.diagnosis import short_lived
from tests.support.fakes.monitoring import FakeMonitoring
from tests.support.process_guard import ProcessGuard, uses_servers
from tests.support.servers.monitoring import ALERTMANAGER, PROMETHEUS, version_of
from tests.support.servers.stack import Stack


def pytest_configure() -> None:
    """Let SIGINT end what the tests start, also if they are a background job, where a shell has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Which ones PATH leads to."""
    found = (program for program in (PROMETHEUS, ALERTMANAGER) if shutil.which(program))
    return "monitoring: " + ", ".join(f"{program} {'.'.join(map(str, version_of(program)))}" for program in found)


@pytest.fixture(scope="session")
def databases() -> Iterator[Stack]:
    """A primary and its standby, for all tests that need no more; each test leaves them without slots of its own."""
    with Stack() as stack:
        stack.start_databases()
        yield stack


@pytest.fixture
def monitoring(tmp_path: Path) -> FakeMonitoring:
    """A healer, a Prometheus and an Alertmanager in canned answers; everything is well."""
    return FakeMonitoring(tmp_path / "token")


@pytest.fixture
def young_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a transaction at once, in place of after five seconds."""
    monkeypatch.setattr(short_lived, "REPORTED_AFTER_SECONDS", 0)


@pytest.fixture(autouse=True)
def _no_leftovers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Clean up after a test that failed half-way, so that the next one starts on servers as it expects them."""
    stack = request.getfixturevalue("databases") if "databases" in request.fixturenames else None
    yield
    if stack is not None:
        for server in (stack.primary, stack.standby):
            server.reset()


GUARD = ProcessGuard()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Check each program that the test, or a fixture that is set up for it, starts."""
    GUARD.test = item
    try:
        return (yield)
    finally:
        GUARD.test = None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Let one worker have all tests of a file, as they share servers; of a version of them where there are several.

    Files of stories begin first: they have few tests, of which each takes long, and would else be what all wait for.
    """
    for item in items:
        if item.get_closest_marker("e2e") is not None or uses_servers(item, sys.modules[__name__]):
            item.add_marker("servers")
    sizes = Counter(item.path for item in items)
    stories = {item.path for item in items if item.get_closest_marker("e2e") is not None}
    items.sort(key=lambda item: (item.path not in stories, -sizes[item.path]))
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        version = parameters.get("databases", parameters.get("busy", ""))
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(f"{item.path}{version}"))

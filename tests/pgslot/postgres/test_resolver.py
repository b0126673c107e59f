"""Name lookups are bounded and shared, and those that hang block no others."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pgslot.postgres.resolver import Resolver

MAX_WAIT = 10.0


class NameServer:
    """Replaces getaddrinfo(): names that begin with `hang` have no answer before `released`."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.asked: list[str] = []
        self.running = 0
        self.max_running = 0
        self._lock = threading.Lock()

    def __call__(self, host: str, *_arguments: Any, **_more: Any) -> list[Any]:
        with self._lock:
            self.asked.append(host)
            self.running += 1
            self.max_running = max(self.max_running, self.running)
        try:
            if host.startswith("hang"):
                self.released.wait(MAX_WAIT)
                raise socket.gaierror(-3, "Temporary failure in name resolution")
            return [(2, 1, 6, "", ("192.0.2.7", 0)), (10, 1, 6, "", ("2001:db8::7", 0, 0, 0))]
        finally:
            with self._lock:
                self.running -= 1


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server)
    yield server
    server.released.set()


async def test_a_name_is_resolved_while_others_hang(names: NameServer) -> None:
    resolver = Resolver()
    hanging = [asyncio.create_task(resolver.addresses(f"hang{i}")) for i in range(40)]
    await asyncio.sleep(0)
    began = time.monotonic()
    assert await resolver.addresses("well") == ["192.0.2.7", "2001:db8::7"]
    assert time.monotonic() - began < MAX_WAIT / 2
    names.released.set()
    for error in await asyncio.gather(*hanging, return_exceptions=True):
        assert "Temporary failure" in str(error)


async def test_threads_are_limited_and_names_that_hung_get_half_of_them(names: NameServer) -> None:
    few = Resolver(max_threads=4, slow_seconds=0.2)
    once = [asyncio.create_task(few.addresses(f"hang{i}")) for i in range(4)]
    behind = asyncio.create_task(few.addresses("well"))
    _, pending = await asyncio.wait({behind}, timeout=0.5)
    assert pending, "that they hang is not known before their first lookup ends"
    names.released.set()
    await asyncio.gather(*once, return_exceptions=True)
    assert await behind
    names.released.clear()
    again = [asyncio.create_task(few.addresses(f"hang{i}")) for i in range(4)]
    assert await asyncio.wait_for(few.addresses("well"), MAX_WAIT / 2)
    assert names.running == 2
    names.released.set()
    await asyncio.gather(*again, return_exceptions=True)
    assert names.max_running == 4


async def test_concurrent_lookups_of_a_name_share_the_answer(names: NameServer) -> None:
    resolver = Resolver()
    both = [asyncio.create_task(resolver.addresses("hang")) for _ in range(2)]
    await asyncio.sleep(0)
    # Cancelling one does not cancel the other.
    both[0].cancel()
    await asyncio.wait({both[0]})
    names.released.set()
    with pytest.raises(OSError, match="cannot resolve 'hang': "):
        await both[1]
    assert names.asked == ["hang"]


async def test_an_invalid_name_is_an_oserror() -> None:
    with pytest.raises(OSError, match=r"cannot resolve 'a{70}': "):
        await Resolver().addresses("a" * 70)


async def test_names_of_etc_hosts_are_resolved() -> None:
    assert set(await Resolver().addresses("localhost")) <= {"127.0.0.1", "::1"}


async def test_a_thread_that_cannot_be_started_fails_one_lookup_only(
    names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of processes is reached for a moment: afterwards the same name is resolved."""
    few = Resolver(max_threads=1)

    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as none_left:
        none_left.setattr(threading.Thread, "start", refused)
        for _ in range(2):
            with pytest.raises(OSError, match="cannot resolve 'well': can't start new thread"):
                await asyncio.wait_for(few.addresses("well"), MAX_WAIT / 2)
    assert await asyncio.wait_for(few.addresses("well"), MAX_WAIT / 2) == ["192.0.2.7", "2001:db8::7"]
    assert names.asked == ["well"]


async def test_a_queued_name_fails_if_its_thread_cannot_be_started(
    names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = Resolver(max_threads=1)
    first = asyncio.create_task(few.addresses("hang"))
    behind = asyncio.create_task(few.addresses("well"))
    await asyncio.sleep(0)
    monkeypatch.setattr(threading.Thread, "start", lambda _thread: (_ for _ in ()).throw(RuntimeError("no more")))
    names.released.set()
    for waiting, text in ((first, "Temporary failure"), (behind, "no more")):
        with pytest.raises(OSError, match=text):
            await asyncio.wait_for(waiting, MAX_WAIT / 2)

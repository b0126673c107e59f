"""Guesses at passwords lock nobody out: few wait, those whose sender has gone do not, and peers take turns."""

import asyncio
import base64
import socket
import time
from pathlib import Path

import aiohttp
import bcrypt
import pytest
import yaml

from pgslot.httpserver.comparison_queue import (
    MAX_WAITING,
    MAX_WAITING_PER_PEER,
    ComparisonQueue,
    QueueFullError,
    peer_of,
)
from tests.support.web_configs import basic, get, hashed, serving


class Comparisons:
    """Comparisons that end when told so, and the order in which they had their turn."""

    def __init__(self) -> None:
        self.queue = ComparisonQueue()
        self.order: list[str] = []
        self.gone: set[str] = set()
        self._release = asyncio.Semaphore(0)

    async def compare(self, name: str, peer: str) -> None:
        async with self.queue.turn(peer, lambda: name in self.gone):
            self.order.append(name)
            await self._release.acquire()

    def start(self, name: str, peer: str) -> asyncio.Task[None]:
        return asyncio.create_task(self.compare(name, peer))

    async def end(self, count: int) -> None:
        """Let comparisons end, one after the other, that have started or wait by now."""
        await asyncio.sleep(0)
        for _ in range(count):
            self._release.release()
            for _ in range(5):
                await asyncio.sleep(0)


@pytest.fixture
async def comparisons() -> Comparisons:
    return Comparisons()


async def test_newest_comparison_of_a_peer_is_next_and_the_oldest_beyond_the_limit_is_refused(
    comparisons: Comparisons,
) -> None:
    tasks = [comparisons.start(f"{i}", "a") for i in range(MAX_WAITING_PER_PEER + 3)]
    await comparisons.end(MAX_WAITING_PER_PEER + 1)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert comparisons.order == ["0", "6", "5", "4", "3"]
    assert [isinstance(result, QueueFullError) for result in results] == [False, True, True, *[False] * 4]
    assert len(comparisons.queue) == 0


async def test_peers_take_turns(comparisons: Comparisons) -> None:
    tasks = [comparisons.start(f"a{i}", "a") for i in range(5)]
    await asyncio.sleep(0)
    tasks.append(comparisons.start("b0", "b"))
    tasks += [comparisons.start(f"c{i}", "c") for i in range(2)]
    await comparisons.end(8)
    await asyncio.gather(*tasks)
    assert comparisons.order == ["a0", "a4", "b0", "c1", "a3", "c0", "a2", "a1"]


async def test_many_peers_do_not_exceed_the_limit(comparisons: Comparisons) -> None:
    tasks = [comparisons.start(f"{peer}", f"{peer}") for peer in range(MAX_WAITING + 20)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(comparisons.queue) == MAX_WAITING
    await comparisons.end(MAX_WAITING + 1)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(result, QueueFullError) for result in results) == 19


async def test_comparison_whose_sender_has_gone_is_left_out(comparisons: Comparisons) -> None:
    tasks = [comparisons.start(name, "a") for name in ("first", "gone", "last")]
    await asyncio.sleep(0)
    comparisons.gone.add("gone")
    await comparisons.end(2)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert comparisons.order == ["first", "last"]
    assert isinstance(results[1], QueueFullError)


async def test_cancelled_comparison_passes_its_turn_on(comparisons: Comparisons) -> None:
    tasks = [comparisons.start(name, "a") for name in ("first", "waiting", "next")]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    tasks[0].cancel()
    # The turn has been given to "next", which is cancelled before it runs.
    await asyncio.sleep(0)
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    late = comparisons.start("late", "a")
    await comparisons.end(1)
    await asyncio.wait_for(late, 5)
    assert comparisons.order[-1] == "late"


@pytest.mark.parametrize(
    ("remote", "peer"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        (None, ""),
    ],
)
def test_peer_is_an_address_or_a_network_of_ipv6(remote: str | None, peer: str) -> None:
    assert peer_of(remote) == peer


def request_of(password: str) -> bytes:
    credentials = base64.b64encode(f"bob:{password}".encode())
    return b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic " + credentials + b"\r\n\r\n"


def guesses(port: int, count: int, source: str) -> list[socket.socket]:
    """Send guesses, each over its own connection, and read no answer."""
    opened = []
    for number in range(count):
        opened.append(socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0)))
        opened[-1].sendall(request_of(f"wrong-{number}"))
    return opened


@pytest.fixture
def slow_bcrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison takes as long as one of cost 12, and no CPU time."""
    real = bcrypt.checkpw

    def slow(password: bytes, expected: bytes) -> bool:
        time.sleep(0.2)
        return real(password, expected)

    monkeypatch.setattr(bcrypt, "checkpw", slow)


@pytest.mark.usefixtures("slow_bcrypt")
@pytest.mark.parametrize(
    ("count", "source", "hang_up"),
    [
        pytest.param(1500, "127.0.0.1", True, id="1,500 of the same peer, hung up", marks=pytest.mark.simulation),
        pytest.param(200, "127.0.0.1", True, id="200 of the same peer, hung up"),
        pytest.param(200, "127.0.0.2", False, id="200 of another peer, waiting"),
    ],
)
async def test_right_password_is_accepted_within_two_seconds_under_a_flood_of_guesses(
    tmp_path: Path, count: int, source: str, *, hang_up: bool
) -> None:
    path = tmp_path / "web.yml"
    path.write_text(yaml.safe_dump({"basic_auth_users": {"bob": hashed("right")}}))
    async with serving(path) as port:
        opened = await asyncio.to_thread(guesses, port, count, source)
        if hang_up:
            for connection in opened:
                connection.close()
        began = time.monotonic()
        assert (await get(port, headers=basic("bob", "right")))[0] == 200
        assert time.monotonic() - began < 2
        for connection in opened:
            connection.close()


@pytest.mark.usefixtures("slow_bcrypt")
async def test_guesses_beyond_the_limit_are_answered_at_once_with_429(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text(yaml.safe_dump({"basic_auth_users": {"bob": hashed("right")}}))
    async with serving(path) as port:
        answers = await asyncio.gather(*(get(port, headers=basic("bob", f"{number}")) for number in range(12)))
    statuses = sorted(status for status, _, _ in answers)
    assert statuses == [401] * (1 + MAX_WAITING_PER_PEER) + [429] * (11 - MAX_WAITING_PER_PEER)
    assert {headers.get("Retry-After") for status, _, headers in answers if status == 429} == {"1"}


@pytest.mark.usefixtures("slow_bcrypt")
async def test_webhook_beyond_the_limit_is_answered_with_503_for_its_sender_to_try_again(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text(yaml.safe_dump({"basic_auth_users": {"bob": hashed("right")}}))
    async with serving(path) as port, aiohttp.ClientSession() as session:

        async def post(number: int) -> int:
            url = f"http://127.0.0.1:{port}/"
            async with session.post(url, headers=basic("bob", f"{number}")) as answer:
                return answer.status

        assert set(await asyncio.gather(*(post(number) for number in range(7)))) == {401, 503}

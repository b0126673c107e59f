"""
The queue in front of bcrypt: one comparison at a time, few that wait, and every peer in its turn.

A comparison takes a third of a second at cost 12. Without a bound, a few hundred guesses keep a right password waiting
for minutes, also those whose senders have hung up, because aiohttp does not cancel their handlers.
"""

import asyncio
import ipaddress
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

MAX_WAITING = 16
MAX_WAITING_PER_PEER = 4


class QueueFullError(Exception):
    """The comparison has to be tried again later: the queue was full, or the sender has gone."""


@dataclass(eq=False, slots=True)
class _Waiting:
    has_gone: Callable[[], bool]
    """Whether the client has closed its connection."""
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ComparisonQueue:
    """Peers take turns; within a peer the newest comes first, because the oldest ones' senders give up first."""

    def __init__(self) -> None:
        self._busy = False
        self._waiting: OrderedDict[str, list[_Waiting]] = OrderedDict()
        """By peer, the one whose turn is next first; each peer's oldest first."""

    def __len__(self) -> int:
        """Return how many comparisons wait."""
        return sum(len(waiting) for waiting in self._waiting.values())

    @asynccontextmanager
    async def turn(self, peer: str, has_gone: Callable[[], bool]) -> AsyncIterator[None]:
        """Wait for the turn, and hold it inside the block. Raises QueueFullError."""
        if self._busy:
            await self._wait(peer, _Waiting(has_gone))
        self._busy = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, peer: str, waiting: _Waiting) -> None:
        self._drop_gone()
        self._waiting.setdefault(peer, []).append(waiting)
        if len(self._waiting[peer]) > MAX_WAITING_PER_PEER:
            self._refuse_oldest(peer)
        elif len(self) > MAX_WAITING:
            self._refuse_oldest(max(self._waiting, key=lambda name: len(self._waiting[name])))
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.done() and not waiting.turn.cancelled():
                self._pass_on()
            else:
                self._remove(peer, waiting)
            raise

    def _pass_on(self) -> None:
        """Give the turn to the next peer that waits, if any."""
        self._drop_gone()
        self._busy = bool(self._waiting)
        if self._waiting:
            peer, waiting = next(iter(self._waiting.items()))
            newest = waiting.pop()
            self._waiting.move_to_end(peer)
            if not waiting:
                del self._waiting[peer]
            newest.turn.set_result(None)

    def _drop_gone(self) -> None:
        for peer, waiting in list(self._waiting.items()):
            for comparison in [comparison for comparison in waiting if comparison.has_gone()]:
                self._refuse(peer, comparison)

    def _refuse_oldest(self, peer: str) -> None:
        self._refuse(peer, self._waiting[peer][0])

    def _refuse(self, peer: str, comparison: _Waiting) -> None:
        self._remove(peer, comparison)
        comparison.turn.set_exception(QueueFullError())

    def _remove(self, peer: str, comparison: _Waiting) -> None:
        waiting = self._waiting.get(peer, [])
        if comparison in waiting:
            waiting.remove(comparison)
        if not waiting:
            self._waiting.pop(peer, None)


def peer_of(remote: str | None) -> str:
    """Return what counts as one peer: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return remote or ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))

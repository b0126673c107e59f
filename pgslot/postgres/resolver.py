"""
Resolves host names in a few threads of its own, so that a name server that hangs blocks nothing else.

getaddrinfo() knows /etc/hosts, nsswitch.conf and mDNS, as the machine's other programs do; an asynchronous resolver
knows only DNS. But a call cannot be cancelled: a lookup that hangs keeps its thread for as long as the C library waits
(10 s and more per name server). Therefore the threads are not asyncio's, which other work needs, and they are daemons,
so that a process ends without waiting for them.
"""

import contextlib
import socket
import threading
import time
from asyncio import Future as AsyncioFuture
from asyncio import get_running_loop
from collections import deque
from concurrent.futures import Future

from pgslot.postgres.deadlines import SLOW_LOOKUP_SECONDS

MAX_THREADS = 64
"""Names that were slow at their last lookup get at most half of them, so that there is room for the others."""


class Resolver:
    """Bounded lookups; concurrent lookups of one name share the answer."""

    def __init__(self, max_threads: int = MAX_THREADS, slow_seconds: float = SLOW_LOOKUP_SECONDS) -> None:
        self._lock = threading.Lock()
        self._max_threads = max_threads
        self._slow_seconds = slow_seconds
        self._in_flight: dict[str, Future[list[str]]] = {}
        self._queues: dict[bool, deque[str]] = {False: deque(), True: deque()}
        """Names that wait for a thread, by whether they are slow."""
        self._running = {False: 0, True: 0}
        """Threads, by whether their name is slow."""
        self._slow: set[str] = set()

    async def addresses(self, host: str) -> list[str]:
        """Return the host's addresses in the order to try them in. Raises OSError, whose text names the host."""
        loop = get_running_loop()
        answer: AsyncioFuture[list[str]] = loop.create_future()

        def deliver(done: Future[list[str]]) -> None:
            # RuntimeError: the loop is closed, so nothing waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_copy_result, done, answer)

        self._submit(host).add_done_callback(deliver)
        return await answer

    def _submit(self, host: str) -> Future[list[str]]:
        with self._lock:
            future = self._in_flight.get(host)
            if future is None:
                future = self._in_flight[host] = Future()
                self._queues[host in self._slow].append(host)
                self._start_threads()
        return future

    def _start_threads(self) -> None:
        """Start the lookups that there is room for. The caller holds the lock."""
        for slow, limit in ((False, self._max_threads), (True, self._max_threads // 2)):
            while (
                self._queues[slow] and self._running[slow] < limit and sum(self._running.values()) < self._max_threads
            ):
                self._running[slow] += 1
                host = self._queues[slow].popleft()
                try:
                    threading.Thread(
                        target=self._look_up, args=(host, slow), name=f"resolve {host}", daemon=True
                    ).start()
                except RuntimeError as failure:
                    # A limit of processes is reached. The name must not stay in flight: the next lookup may succeed.
                    self._running[slow] -= 1
                    self._in_flight.pop(host).set_exception(OSError(f"cannot resolve {host!r}: {failure}"))

    def _look_up(self, host: str, was_slow: bool) -> None:
        started = time.monotonic()
        addresses: list[str] = []
        error: OSError | None = None
        try:
            # Only TCP, or every address would be listed once per socket type.
            addresses = [str(item[4][0]) for item in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError) as failure:
            error = OSError(f"cannot resolve {host!r}: {failure}")
            error.__cause__ = failure
        with self._lock:
            (self._slow.add if time.monotonic() - started > self._slow_seconds else self._slow.discard)(host)
            self._running[was_slow] -= 1
            future = self._in_flight.pop(host)
            self._start_threads()
        if error is None:
            future.set_result(addresses)
        else:
            future.set_exception(error)


RESOLVER = Resolver()
"""The process's resolver: MAX_THREADS bounds the process's threads."""


def _copy_result(done: Future[list[str]], answer: AsyncioFuture[list[str]]) -> None:
    if answer.done():  # the caller was cancelled
        return
    error = done.exception()
    if error is None:
        answer.set_result(done.result())
    else:
        answer.set_exception(error)

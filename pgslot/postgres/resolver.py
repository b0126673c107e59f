"""
Looks host names up in threads of its own, a few at most, so that a name server that hangs holds up nobody else.

getaddrinfo() is what knows /etc/hosts, nsswitch.conf and mDNS as the machine's other programs do; an asynchronous
resolver knows DNS. It cannot be given up, though: a look-up that hangs keeps its thread for as long as the C library
waits (10 s and more for each name server). Hence the threads are not asyncio's, where they would hold up whatever else
needs one, and a process ends without waiting for them.
"""

import contextlib
import socket
import threading
import time
from asyncio import Future as AsyncioFuture
from asyncio import get_running_loop
from collections import deque
from concurrent.futures import Future

MAX_THREADS = 64
"""Threads. Names that hung when they were last looked up have half of them, so that there is room for the others."""

SLOW_SECONDS = 1.0


class Resolver:
    """All look-ups of a process. Whoever asks for a name that is being looked up shares the answer."""

    def __init__(self, at_once: int = MAX_THREADS) -> None:
        self._lock = threading.Lock()
        self._at_once = at_once
        self._under_way: dict[str, Future[list[str]]] = {}
        self._waiting: dict[bool, deque[str]] = {False: deque(), True: deque()}
        """By whether the name was slow."""
        self._running = {False: 0, True: 0}
        self._slow: set[str] = set()

    async def addresses(self, host: str) -> list[str]:
        """Return the host's addresses in the order to try them in. Raises OSError, whose text names the host."""
        loop = get_running_loop()
        answer: AsyncioFuture[list[str]] = loop.create_future()

        def deliver(done: Future[list[str]]) -> None:
            # RuntimeError: the loop is closed, and nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, answer, done)

        self._submit(host).add_done_callback(deliver)
        return await answer

    def _submit(self, host: str) -> Future[list[str]]:
        with self._lock:
            future = self._under_way.get(host)
            if future is None:
                future = self._under_way[host] = Future()
                self._waiting[host in self._slow].append(host)
                self._start()
        return future

    def _start(self) -> None:
        """Start what there is room for; with the lock held."""
        for slow, limit in ((False, self._at_once), (True, self._at_once // 2)):
            while self._waiting[slow] and self._running[slow] < limit and sum(self._running.values()) < self._at_once:
                self._running[slow] += 1
                host = self._waiting[slow].popleft()
                try:
                    threading.Thread(target=self._run, args=(host, slow), name=f"resolve {host}", daemon=True).start()
                except RuntimeError as failure:
                    # A limit of processes. Whoever asks next may have a thread: the name must not stay under way.
                    self._running[slow] -= 1
                    self._under_way.pop(host).set_exception(OSError(f"cannot resolve {host!r}: {failure}"))

    def _run(self, host: str, was_slow: bool) -> None:
        started = time.monotonic()
        found: list[str] = []
        error: OSError | None = None
        try:
            # TCP alone, or each address would come once for each kind of socket.
            found = [str(item[4][0]) for item in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError) as failure:
            error = OSError(f"cannot resolve {host!r}: {failure}")
        with self._lock:
            (self._slow.add if time.monotonic() - started > SLOW_SECONDS else self._slow.discard)(host)
            self._running[was_slow] -= 1
            future = self._under_way.pop(host)
            self._start()
        if error is None:
            future.set_result(found)
        else:
            future.set_exception(error)


RESOLVER = Resolver()
"""The process's resolver: MAX_THREADS bounds the process's threads."""


def _settle(answer: AsyncioFuture[list[str]], done: Future[list[str]]) -> None:
    if answer.done():  # whoever asked has given up
        return
    error = done.exception()
    if error is None:
        answer.set_result(done.result())
    else:
        answer.set_exception(error)

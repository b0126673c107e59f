"""HTTP basic authentication against bcrypt hashes."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import bcrypt
from aiohttp import web

from pgslot.httpserver.comparison_queue import ComparisonQueue, peer_of

CHALLENGE = 'Basic realm="pg-slot", charset="UTF-8"'
MAX_PASSWORD_BYTES = 72
"""bcrypt reads no more; htpasswd and Go ignore the rest as well."""
MAX_VERIFIED = 100
"""Correct credentials to remember: a scrape every second must not cost a bcrypt every second."""


class PasswordVerifier:
    """
    Compares with bcrypt, in a thread and one at a time, so that a flood of guesses takes one core at most.

    The queue in front of it is bounded; credentials that were correct before do not wait in it.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._thread = ThreadPoolExecutor(1, "bcrypt")
        """Its own: a password must not wait for other work in asyncio's threads."""
        self._queue = ComparisonQueue()
        self._verified: OrderedDict[bytes, None] = OrderedDict()
        """Digests of correct credentials, the least recently used first."""

    async def verify(self, users: dict[bytes, bytes], request: web.Request) -> bool:
        """
        Return whether the Authorization header has the name and password of one of the users.

        Raises QueueFullError if there are too many to compare.
        """
        credentials = _credentials(request.headers.get("Authorization", ""))
        if credentials is None:
            return False
        user, _, password = credentials.partition(b":")
        expected = users.get(user)
        if expected is None:
            # An unknown name takes as long as a user's, always the same user's, and is never correct.
            hashes = list(users.values())
            await self._compare(request, password, hashes[int.from_bytes(self._digest(user)[:8], "big") % len(hashes)])
            return False
        # With the hash in the digest, a changed password is not taken for the remembered one.
        digest = self._digest(expected + b"\0" + credentials)
        if digest not in self._verified and not await self._compare(request, password, expected):
            return False
        self._verified[digest] = None
        self._verified.move_to_end(digest)
        if len(self._verified) > MAX_VERIFIED:
            self._verified.popitem(last=False)
        return True

    async def _compare(self, request: web.Request, password: bytes, expected: bytes) -> bool:
        def has_gone() -> bool:
            return request.transport is None or request.transport.is_closing()

        async with self._queue.turn(peer_of(request.remote), has_gone):
            return await asyncio.get_running_loop().run_in_executor(self._thread, _matches, password, expected)

    def _digest(self, data: bytes) -> bytes:
        return hmac.digest(self._secret, data, hashlib.sha256)


def _credentials(header: str) -> bytes | None:
    """Return `user:password` as the bytes that the client sent; None: the header has none. The file's are in UTF-8."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        credentials = base64.b64decode(rest.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return credentials if b":" in credentials else None


def _matches(password: bytes, expected: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:MAX_PASSWORD_BYTES], expected)
    except ValueError:  # a NUL byte, in some versions of bcrypt
        return False

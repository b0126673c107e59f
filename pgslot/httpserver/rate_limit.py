"""The rate limit over all clients."""

import time

from pgslot.httpserver.web_config import RateLimit


class TokenBucket:
    """Tokens that requests take; a changed limit starts with a full bucket."""

    def __init__(self) -> None:
        self._limit: RateLimit | None = None
        self._tokens = 0.0
        self._refilled_at = 0.0

    def take(self, limit: RateLimit | None) -> bool:
        """Return whether one more request is within the limit; None: there is no limit."""
        if limit is None:
            self._limit = None
            return True
        now = time.monotonic()
        if limit != self._limit:
            self._limit, self._tokens = limit, float(limit.burst)
        else:
            self._tokens = min(limit.burst, self._tokens + (now - self._refilled_at) / limit.interval)
        self._refilled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

"""The webhooks that were not accepted within the last day: what alerts they had is not known."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

MAX_AGE_SECONDS = 86400.0

ACCEPTED = 200


@dataclass(frozen=True, slots=True)
class Refusal:
    """Webhooks that were answered with one status. Unix times."""

    status: int
    count: int
    first_at: float
    last_at: float


class RefusedWebhooks:
    """By status; one whose last webhook came more than a day ago is forgotten."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._refusals: dict[int, Refusal] = {}

    def record(self, status: int) -> None:
        """Count the answer to a webhook, unless it was accepted."""
        if status == ACCEPTED:
            return
        now = self._clock()
        before = next((refusal for refusal in self.recent if refusal.status == status), None)
        refusal = Refusal(status, 1, now, now) if before is None else replace(before, count=before.count + 1)
        self._refusals[status] = replace(refusal, last_at=now)

    @property
    def recent(self) -> tuple[Refusal, ...]:
        """Those of the last day."""
        earliest = self._clock() - MAX_AGE_SECONDS
        return tuple(refusal for refusal in self._refusals.values() if refusal.last_at >= earliest)

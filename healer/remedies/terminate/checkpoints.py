"""What checkpoints prove about running-xacts records: the proof on 14 and 15, where no record can be forced."""

import math
from collections import deque
from dataclasses import dataclass

from pgslot.snapshot.history import LoggedRecords


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The row of CHECKPOINT; bytes since 0/0."""

    redo: int
    end: int


CHECKPOINT = """
SELECT
  pg_catalog.pg_wal_lsn_diff(c.redo_lsn, '0/0')::pg_catalog.int8 AS redo,
  pg_catalog.pg_wal_lsn_diff(c.checkpoint_lsn, '0/0')::pg_catalog.int8 AS end
FROM pg_catalog.pg_control_checkpoint() c
"""
"""The last checkpoint. One that does not shut the server down logs a running-xacts record between the two positions."""

MAX_CHECKS = 500
"""How many checks the history keeps; the oldest go first."""


class CheckpointHistory:
    """
    What checkpoints prove about running-xacts records, where none can be forced.

    A checkpoint of a running server logs one between its redo position and its own record. One whose redo position is
    not before where WAL stood at a check was logged after that check.
    """

    def __init__(self) -> None:
        self._checks: deque[tuple[float, int, int | None]] = deque(maxlen=MAX_CHECKS)
        """When each check was made, where WAL stood, and where the first checkpoint after it ended."""

    def add(self, checkpoint: Checkpoint, position: int, at: float, now: float) -> tuple[LoggedRecords, ...]:
        """
        Return the records that the last checkpoint, as seen after a check made at this time, proves.

        One checkpoint proves the same for many checks. The last of them says most: only that is returned, as the
        history that keeps it is bounded, and has to hold those of several checkpoints.
        """
        if checkpoint.redo >= checkpoint.end:
            # It shut the server down, or ended its recovery.
            self._checks.append((at, position, None))
            return ()
        own = LoggedRecords(math.inf, now, checkpoint.redo, checkpoint.end)
        proven: list[LoggedRecords] = []
        open_checks: list[tuple[float, int, int | None]] = []
        for made_at, stood, first in self._checks:
            if first is None and checkpoint.redo >= stood:
                open_checks.append((made_at, stood, checkpoint.end))
            elif first is not None and checkpoint.redo >= first:
                proven.append(LoggedRecords(made_at, now, stood, checkpoint.end))
            else:
                open_checks.append((made_at, stood, first))
        self._checks.clear()
        self._checks.extend([*open_checks, (at, position, None)])
        return (own, *proven[-1:])

"""
Functions that a managed service may refuse to run, and what the queries ask in their place.

A refused function costs its own columns. In place of the call stands another function that shows the same, or NULL,
which is unknown. Amazon Aurora refuses the positions and the WAL receiver with 0A000, "... is currently not supported
for Aurora" (DataDog/integrations-core#6399 and #14498, rapidloop/pgmetrics#68); a service may as well revoke EXECUTE
(42501) or lack the function (42883).
"""

from dataclasses import dataclass
from functools import cache

_NO_POSITION = "NULL::pg_catalog.pg_lsn"


@dataclass(frozen=True, slots=True)
class ReplaceableFunction:
    """A function that the queries can do without."""

    name: str
    """Without its schema, pg_catalog, and without parentheses: it has no arguments."""
    replacement: str
    """The SQL in place of its call."""
    test: str
    """A query with one column `answers`, that calls it as the queries do: some only on a primary, or on a standby."""

    @property
    def call(self) -> str:
        return f"pg_catalog.{self.name}()"


def _called(name: str, condition: str, replacement: str = _NO_POSITION) -> ReplaceableFunction:
    test = f"SELECT CASE WHEN {condition} THEN pg_catalog.{name}() IS NOT NULL END AS answers"
    return ReplaceableFunction(name, replacement, test)


_ON_PRIMARY = "NOT pg_catalog.pg_is_in_recovery()"
_ON_STANDBY = "pg_catalog.pg_is_in_recovery()"

REPLACEABLE = (
    # What is inserted is written a moment later: at most 200 ms on a busy server.
    _called("pg_current_wal_lsn", _ON_PRIMARY, "pg_catalog.pg_current_wal_insert_lsn()"),
    _called("pg_current_wal_insert_lsn", _ON_PRIMARY),
    _called("pg_last_wal_replay_lsn", _ON_STANDBY),
    _called("pg_last_wal_receive_lsn", _ON_STANDBY),
    _called("pg_get_wal_replay_pause_state", _ON_STANDBY, "NULL::pg_catalog.text"),
    ReplaceableFunction(
        "pg_stat_get_wal_receiver",
        # No row at all, where the function returns one even if there is no receiver.
        "(SELECT NULL::int4 AS pid, NULL::text AS status, NULL::text AS slot_name, NULL::text AS conninfo WHERE false)",
        "SELECT count(*) > 0 AS answers FROM pg_catalog.pg_stat_get_wal_receiver()"
        " WHERE pg_catalog.pg_is_in_recovery()",
    ),
)
"""In this order: the replacement of one may be another one below it."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The row of a function's test."""

    answers: bool | None


@cache
def without_functions(sql: str, refused: frozenset[str]) -> str:
    """Return the query without calls of the refused functions, given by name."""
    for function in REPLACEABLE:
        if function.name in refused:
            sql = sql.replace(function.call, function.replacement)
    return sql


def called_functions(sql: str) -> tuple[ReplaceableFunction, ...]:
    """Return the replaceable functions that this query calls."""
    return tuple(function for function in REPLACEABLE if function.call in sql)

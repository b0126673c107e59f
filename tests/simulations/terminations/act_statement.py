"""
Runs the healer's own end_transaction.sql on a real server, on the model's rows in place of the system's views.

So the model has no second version of the guards that could differ from the first. What the statement uses of the
server's state is listed here; a name that is in neither list is an error, not a silent look at the real server.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache
from typing import Any, Self

import psycopg

from healer.commands.grants import ENDER_ROLE, ender_script

VIEWS = {
    "pg_stat_activity": "pid int4, usesysid oid, usename name, application_name text, datname name, backend_type text,"
    " state text, backend_xid xid, backend_xmin xid, backend_start timestamptz, xact_start timestamptz,"
    " query_start timestamptz, state_change timestamptz, wait_event_type text, wait_event text",
    "pg_roles": "oid oid, rolname name, rolsuper bool",
    "pg_replication_slots": "slot_name name, slot_type text, database name, active bool, active_pid int4,"
    " restart_lsn pg_lsn, confirmed_flush_lsn pg_lsn, wal_status text, catalog_xmin xid, temporary bool",
    "pg_locks": "pid int4, locktype text, transactionid xid, granted bool, mode text",
    "pg_stat_get_wal_senders": "pid int4, sent_lsn pg_lsn",
    "pg_prepared_xacts": "transaction xid, gid text, prepared timestamptz, owner name, database name",
}
"""Their columns, as far as the model has them."""

FUNCTIONS = """
CREATE FUNCTION model.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
  RETURN pg_catalog.current_setting('model.clock')::pg_catalog.timestamptz;
CREATE FUNCTION model.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE RETURN model.clock_timestamp();
CREATE FUNCTION model.age(xid) RETURNS int4 LANGUAGE sql STABLE
  RETURN (
    SELECT CASE WHEN ahead.xids >= 2147483648 THEN ahead.xids - 4294967296 ELSE ahead.xids END
    FROM (SELECT (4294967296 + pg_catalog.current_setting('model.next_xid')::int8 - $1::text::int8) % 4294967296)
      AS ahead (xids)
  );
CREATE FUNCTION model.pg_terminate_backend(int4) RETURNS bool LANGUAGE sql VOLATILE
  RETURN EXISTS (SELECT FROM model.pg_stat_activity a WHERE a.pid = $1);
CREATE FUNCTION model.pg_is_in_recovery() RETURNS bool LANGUAGE sql STABLE RETURN false;
CREATE FUNCTION model.pg_backend_pid() RETURNS int4 LANGUAGE sql STABLE RETURN 1;
"""

STATELESS = frozenset(
    [
        "text",
        "int4",
        "int8",
        "float8",
        "bool",
        "jsonb",
        "name",
        "oid",
        "pg_lsn",
        "timestamptz",
        "xid",
        "make_interval",
        "jsonb_array_elements_text",
        "count",
        "format",
        "max",
        "numeric",
        "pg_wal_lsn_diff",
    ]
)
"""Types and functions that are the same on every server."""


_SET = "SELECT pg_catalog.set_config('model.' || key, value, true) FROM pg_catalog.json_each_text(%s::json)"
_FILL = """
INSERT INTO pgslot.ended SELECT r.* FROM pg_catalog.jsonb_populate_recordset(NULL::pgslot.ended, %s::jsonb) r
"""
_NOTES = "SELECT pg_catalog.to_jsonb(e) FROM pgslot.ended e ORDER BY ctid OFFSET %s"


class ActStatement:
    """A connection to a server that has the schema `model`; a context that removes it again."""

    def __init__(self, conninfo: str) -> None:
        self._connection = psycopg.connect(conninfo, autocommit=True)

    def __enter__(self) -> Self:
        views = (
            f"CREATE VIEW model.{name} AS SELECT * FROM pg_catalog.jsonb_to_recordset("
            f"pg_catalog.current_setting('model.{name}')::jsonb) AS r ({columns});"
            for name, columns in VIEWS.items()
        )
        self._connection.execute(ender_script(ENDER_ROLE).encode())
        self._connection.execute(f"DROP SCHEMA IF EXISTS model CASCADE; CREATE SCHEMA model; {''.join(views)}".encode())
        self._connection.execute(FUNCTIONS.encode())
        return self

    def __exit__(self, *_: object) -> None:
        with closing(self._connection):
            self._connection.execute("DROP SCHEMA model CASCADE")

    def run(
        self, sql: str, parameters: Sequence[str], model: Mapping[str, Any], audit_rows: list[dict[str, object]]
    ) -> dict[str, Any]:
        """
        Return the statement's row; `model`: clock, next_xid, and each view's rows.

        `audit_rows`: the rows of the healer's table, to which those are added that the statement inserts.
        """
        settings = {name: value if isinstance(value, str) else json.dumps(value) for name, value in model.items()}
        connection = self._connection
        # In one round trip: thousands of statements are run.
        with connection.pipeline(), connection.transaction(force_rollback=True):
            connection.execute(_SET, [json.dumps(settings)])
            # Real healers in other tests leave rows on the same server, which would count for the hour's limit.
            connection.execute("DELETE FROM pgslot.ended")
            connection.execute(_FILL, [json.dumps(audit_rows)])
            acting = psycopg.RawCursor(connection).execute(on_model(sql).encode(), list(parameters))
            notes = connection.execute(_NOTES, [len(audit_rows)])
        assert acting.description is not None
        names = [column.name for column in acting.description]
        [row] = acting.fetchall()
        audit_rows += [note | {"ended_at": model["clock"]} for (note,) in notes.fetchall()]
        return dict(zip(names, row, strict=True))


@cache
def on_model(sql: str) -> str:
    """Return the statement with every use of the server's state replaced by the model's."""
    sql = re.sub(r"--.*", "", sql)
    modelled = VIEWS.keys() | set(re.findall(r"FUNCTION model\.(\w+)", FUNCTIONS))

    def replaced(match: re.Match[str]) -> str:
        name = match[1]
        if name in modelled:
            return f"model.{name}"
        assert name in STATELESS, f"the model has no {name}, which the statement uses: add it to act_statement.py"
        return match[0]

    # A function that returns rows is a view in the model.
    sql = sql.replace("pg_stat_get_wal_senders()", "pg_stat_get_wal_senders")
    sql = re.sub(r"pg_catalog\.(\w+)", replaced, sql)
    return re.sub(r"\bcurrent_user\b", f"'{ENDER_ROLE}'", sql)

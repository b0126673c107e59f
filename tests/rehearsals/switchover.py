"""A pair of servers, its polling consumers, what a rehearsal says of it, and what the real switchover then does."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg
import yaml

from tests.support import in_process
from tests.support.failover_slots import WORKER, persistent
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.sessions import Statement
from tests.support.servers.stack import EXPORTER_ROLE, Stack

HANG_SECONDS = 4
"""A consumer that reads nothing for so long waits for a standby."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    situation: str
    said: str
    happened: str
    agrees: bool


@dataclass
class Switchover:
    """One switchover from the stack's primary to its standby."""

    stack: Stack
    rows: list[Row] = field(default_factory=list)
    received: dict[str, list[int]] = field(default_factory=dict)
    """Ids that each slot's consumer got, before and after."""
    begins: dict[str, int] = field(default_factory=dict)
    """The id of the first row that each consumer has to get."""
    nodes: list[Postgres] = field(default_factory=list)
    """Standbys besides the stack's."""
    said: dict[str, Any] = field(default_factory=dict)
    """What the rehearsal printed as JSON."""
    confirmed: dict[str, int] = field(default_factory=dict)
    """confirmed_flush_lsn of the primary's slots at the switchover, in bytes since 0/0."""

    @property
    def primary(self) -> Postgres:
        return self.stack.primary

    @property
    def standby(self) -> Postgres:
        return self.stack.standby

    def last_id(self, server: Postgres) -> int:
        [(last,)] = server.sql("SELECT coalesce(max(id), 0) FROM orders")
        return int(last)

    def insert(self, server: Postgres, count: int) -> None:
        """Insert rows, each in a transaction of its own."""
        first = self.last_id(server) + 1
        for number in range(first, first + count):
            server.sql("INSERT INTO orders VALUES (%s, 'item')", [number])

    def create(self, slot: str, *, failover: bool = True) -> None:
        """Create a logical slot on the primary; its consumer has to get every row from now on."""
        more = ", false, false, true" if failover else ""
        self.primary.sql(f"SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'test_decoding'{more})", [slot])
        self.begins[slot] = self.last_id(self.primary) + 1

    def create_on_standby(self, slot: str) -> None:
        """Create a logical slot of the standby's own."""
        call = f"SELECT pg_catalog.pg_create_logical_replication_slot('{slot}', 'test_decoding')"
        record = "SELECT pg_catalog.pg_log_standby_snapshot()"
        with Statement(self.standby.conninfo(), call) as creator:
            wait_for(lambda: creator.wait(0.2) or not self.primary.sql(record), f"{slot} is made")
            assert creator.error is None, creator.error
        self.begins[slot] = self.last_id(self.primary) + 1

    def read(self, server: Postgres, slot: str) -> None:
        """Read and confirm everything, as a consumer that polls; raises psycopg.Error, QueryCanceled if it hangs."""
        with psycopg.connect(server.conninfo(), autocommit=True) as session:
            session.execute(f"SET statement_timeout = '{HANG_SECONDS}s'")
            changes = session.execute("SELECT data FROM pg_catalog.pg_logical_slot_get_changes(%s, NULL, NULL)", [slot])
            texts = [data for (data,) in changes]
        ids = [int(text.split("id[integer]:")[1].split()[0]) for text in texts if "orders: INSERT" in text]
        self.received.setdefault(slot, []).extend(ids)

    def read_record(self, *slots: str) -> None:
        """Let consumers of the primary read and confirm a new running-xacts record."""
        [(record,)] = self.primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
        wait_for(
            lambda: self.primary.sql("SELECT 1 WHERE pg_catalog.pg_current_wal_flush_lsn() >= %s::pg_lsn", [record]),
            "the record is flushed",
        )
        for slot in slots:
            self.read(self.primary, slot)

    def synchronise(self, *slots: str) -> None:
        """Switch the standby's synchronisation on, and wait until these slots have persistent copies in step."""
        [(conninfo,)] = self.standby.sql("SHOW primary_conninfo")
        if "dbname" not in conninfo:
            self.standby.sql(f"ALTER SYSTEM SET primary_conninfo = '{conninfo} dbname=postgres'")
        self.standby.sql("ALTER SYSTEM SET sync_replication_slots = on")
        self.standby.sql("SELECT pg_catalog.pg_reload_conf()")
        self.read_record(*slots)
        self.read_record(*slots)
        for slot in slots:
            wait_for(partial(self.in_step, slot), f"the copy of {slot} is in step", 90)

    def in_step(self, slot: str) -> bool:
        query = "SELECT confirmed_flush_lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = %s"
        return persistent(self.standby, slot) and self.primary.sql(query, [slot]) == self.standby.sql(query, [slot])

    @contextmanager
    def worker_stopped(self) -> Iterator[None]:
        """Stop (SIGSTOP) the standby's slot synchronization worker within the context, which may end the primary."""
        [(pid,)] = self.standby.sql(WORKER.replace("SELECT 1", "SELECT pid"))
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def rehearse(self) -> None:
        """Let the command say what the switchover would do."""
        servers = (self.primary, self.standby, *self.nodes)
        nodes = {server.name: {"conninfo": server.conninfo(EXPORTER_ROLE)} for server in servers}
        file = self.stack.folder / "rehearsal.yml"
        file.write_text(yaml.safe_dump({"clusters": {"c": {"nodes": nodes}}}), "utf-8")
        command = ("rehearse", "c", "--to", self.standby.name, "--json", f"--config.file={file}")
        done = in_process.run("pg-slot-exporter", *command)
        assert done.stderr == "", done.stderr
        [self.said] = json.loads(done.stdout)
        assert self.said["everything_known"], self.said["unknown"]
        assert done.returncode == (0 if self.said["everything_goes_on"] else 1)

    def stop_primary(self) -> None:
        """Shut the primary down cleanly, which sends the standby the rest of its WAL."""
        query = (
            "SELECT slot_name, pg_catalog.pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::int8"
            " FROM pg_catalog.pg_replication_slots WHERE slot_type = 'logical' AND confirmed_flush_lsn IS NOT NULL"
        )
        self.confirmed = dict(self.primary.sql(query))
        self.primary.stop()

    def expect_slot(self, situation: str, slot: str) -> None:
        """Let the slot's consumer read on after the promotion, and compare that with what was said."""
        said = self.said_of(slot)
        happened, agrees = self._happened(slot, said)
        self.rows.append(Row(situation, _words(said), happened, agrees))

    def expect_exists(self, situation: str, slot: str) -> None:
        """Compare what was said of a physical slot, or of one without a consumer, with whether it exists."""
        said = self.said_of(slot)
        exists = bool(self.standby.sql("SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s", [slot]))
        happened = "it is there" if exists else "it is gone"
        self.rows.append(Row(situation, _words(said), happened, exists == (said["outcome"] == "goes_on")))

    def expect_problem(self, situation: str, kind: str, happened: str, *, is_real: bool) -> None:
        """Compare a problem that has to be among those that were named with what happened."""
        kinds = [problem["kind"] for problem in self.said["problems"]]
        said = f"`{kind}`" if kind in kinds else f"nothing of `{kind}`"
        self.rows.append(Row(situation, said, happened, is_real and kind in kinds))

    def said_of(self, slot: str) -> dict[str, Any]:
        slots = [*self.said["slots"], *self.said["target_slots"]]
        [said] = [said for said in slots if said["slot_name"] == slot]
        return dict(said)

    def _happened(self, slot: str, said: dict[str, Any]) -> tuple[str, bool]:
        query = (
            "SELECT pg_catalog.pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::int8"
            " FROM pg_catalog.pg_replication_slots WHERE slot_name = %s"
        )
        position = self.standby.sql(query, [slot])
        before = list(self.received.get(slot, ()))
        try:
            self.read(self.standby, slot)
        except psycopg.errors.QueryCanceled:
            return "its consumer hangs", False
        except psycopg.Error:
            return "it cannot be used" if position else "it is gone", said["outcome"] == "ends"
        after = self.received[slot][len(before) :]
        again = len(set(before) & set(after))
        expected = set(range(self.begins[slot], self.last_id(self.standby) + 1))
        missing = len(expected - set(before) - set(after))
        words = "its consumer reads on"
        words += f", {again} rows again" if again else ", nothing again"
        words += f", {missing} rows missing" if missing else ", nothing missing"
        agrees = bool(missing) == bool(said["skipped_bytes"]) and said["outcome"] in ("goes_on", "other_slot")
        if slot in self.confirmed:
            [(reached,)] = position
            agrees &= max(0, self.confirmed[slot] - reached) == said["repeated_bytes"]
            agrees &= bool(again) <= bool(said["repeated_bytes"])
        else:
            agrees &= not again
        return words, agrees


def _words(said: dict[str, Any]) -> str:
    """Return what was said of a slot, without numbers that differ from run to run."""
    words = f"`{said['outcome']}`, `{said['reason']}`"
    if said["repeated_bytes"]:
        words += ", some WAL again"
    return f"{words}, some WAL skipped" if said["skipped_bytes"] else words

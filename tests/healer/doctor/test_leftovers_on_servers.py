"""
What a demoted primary leaves behind, on real servers: doctor's statements remove it, and nothing that anybody uses.

One after another: a standby on a dead timeline, a name clash, a slot without a successor, a copy without an original.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from healer.doctor.checks import leftovers as checked
from healer.doctor.checks.servers import check_servers
from healer.doctor.result import Finding
from pgslot.config.model import Config, HealerSettings
from tests.support.failover_slots import (
    copied,
    create_failover_slot,
    read_until_persistent,
    synchronising,
)
from tests.support.running_healer import until, watched
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import Stack
from tests.support.servers.workload import write_wal

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MEBIBYTE = 1024 * 1024


@pytest.fixture
def databases() -> Iterator[Stack]:
    """In place of the session's servers, which would lose their roles."""
    with Stack() as stack:
        # pg_rewind reads WAL from the last checkpoint before the fork.
        stack.start_databases(wal_keep_size="'256MB'")
        yield stack


@pytest.fixture(autouse=True)
def _no_leftovers() -> None:
    """In place of the cleanup of the session's servers: these stop with the test."""


async def leftovers(stack: Stack) -> list[Finding]:
    findings = await check_servers(Config((watched(stack),), HealerSettings()))
    return [finding for finding in findings if finding.check == "leftovers"]


def run_statement(server: Postgres, finding: Finding) -> int:
    """Run the statement that the finding's advice ends with; return how many slots it has dropped."""
    [statement] = re.findall(r"SELECT pg_catalog\.pg_drop_replication_slot.*;$", finding.advice)
    return len(server.sql(statement))


def slots(server: Postgres) -> set[str]:
    return {name for (name,) in server.sql("SELECT slot_name FROM pg_catalog.pg_replication_slots")}


def demote(former: Postgres, promoted: Postgres) -> None:
    """Let the stopped former primary stream from the promoted server, through a physical slot there."""
    if former.name not in slots(promoted):
        promoted.sql("SELECT pg_catalog.pg_create_physical_replication_slot(%s, true)", [former.name])
    former.demote(promoted)


def streams(server: Postgres) -> bool:
    return bool(server.sql("SELECT 1 FROM pg_catalog.pg_stat_wal_receiver WHERE status = 'streaming'"))


async def test_what_switchovers_leave_behind_is_removed_by_the_statements(
    databases: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = databases.primary, databases.standby
    assert await leftovers(databases) == []
    # The second server is promoted while the first goes on writing: that can never follow it.
    second.promote()
    write_wal(first, MEBIBYTE)
    first.stop()
    demote(first, second)
    write_wal(second, MEBIBYTE)
    with monkeypatch.context() as patched:
        patched.setattr(checked, "RECONNECT_SECONDS", 0.0)
        [finding] = await leftovers(databases)
    assert finding.subject == "c/standby"
    assert finding.found.startswith(
        "primary does not stream, its control file has timeline 1, the primary is on 2; its slot primary retains"
    )
    log = "forked off current database system timeline 1|not in this server's history"
    wait_for(lambda: re.search(log, first.process.log.read_text("utf-8", "replace")), "its log says so")
    assert not streams(first)
    assert "primary" in slots(second)
    # Rewound, it goes on with that slot.
    first.stop()
    rewind(first, second)
    first.demote(second)
    await until(lambda: streams(first), "the rewound server streams", 60)
    assert await leftovers(databases) == []
    # A clean switchover back: the second server keeps the slots that it had as the primary.
    for slot in ("clash", "alone"):
        create_failover_slot(second, slot)
    second.stop()
    first.promote()
    demote(second, first)
    await until(lambda: streams(second), "the demoted server streams", 60)
    create_failover_slot(first, "clash")
    findings = {finding.found.split()[1]: finding for finding in await leftovers(databases)}
    assert findings.keys() == {"clash", "alone"}
    assert "it stops the synchronisation of all failover slots" in findings["clash"].found
    assert "no session has used it for" in findings["alone"].found
    create_failover_slot(first, "victim")
    with synchronising(second, wait=False):
        refused = "exiting from slot synchronization because same name slot"
        wait_for(lambda: refused in second.process.log.read_text("utf-8", "replace"), "the worker stops at it", 60)
        assert not copied(second, "victim")
    # Somebody has read from the slot since: the statement drops nothing.
    first.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
    first.wait_until_replayed(second)
    before = second.sql("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'alone'")
    second.sql("SELECT pg_catalog.pg_replication_slot_advance('alone', pg_catalog.pg_last_wal_replay_lsn())")
    assert second.sql("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'alone'") != before
    assert run_statement(second, findings["alone"]) == 0
    [alone] = [finding for finding in await leftovers(databases) if finding.found.startswith("slot alone")]
    assert (run_statement(second, alone), run_statement(second, findings["clash"])) == (1, 1)
    # Nothing stops synchronisation any more; then the original of a copy is dropped.
    with synchronising(second):
        read_until_persistent(first, second, "victim")
    first.drop_slot("victim")
    [orphan] = await leftovers(databases)
    assert orphan.found.startswith("slot victim is a copy whose original is gone from the primary")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="cannot drop replication slot"):
        second.sql("SELECT pg_catalog.pg_drop_replication_slot('victim')")
    with synchronising(second):
        wait_for(lambda: "victim" not in slots(second), "the worker drops it", 60)
    # What is left are the slots of the primary, at which pg_upgrade stops.
    first.sql("CREATE TABLE unread (id int)")
    monkeypatch.setattr(checked, "UNUSED_SECONDS", 0.0)
    [unread] = await leftovers(databases)
    assert unread.found.startswith("slot clash retains")
    assert upgrade_stops_at(first, databases.folder) == {"clash"}
    assert run_statement(first, unread) == 1
    assert [finding for finding in await leftovers(databases) if finding.subject == "c/primary"] == []
    assert upgrade_stops_at(first, databases.folder) == set()


def upgrade_stops_at(server: Postgres, folder: Path) -> set[str]:
    """Stop the server, and return the slots at which pg_upgrade stops; the server runs again after that."""
    # The new cluster is of the same version, for which nothing but the check is possible.
    new = Postgres(server.binaries, folder, f"new-{time.monotonic_ns()}")
    new.make_data_folder()
    programs, data, user = server.binaries, ("-D", new.data_folder), ("-U", "postgres")
    programs.run(programs.server / "initdb", *data, *user, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
    new.configure({"wal_level": "logical", "max_replication_slots": "50"})
    server.stop()
    old = ("-d", server.data_folder, "-p", str(server.port), "-b", programs.server, "-B", programs.server)
    failure: RuntimeError | None = None
    try:
        # It needs a current folder that it can write to, and puts its sockets there.
        here = (Path("/bin/sh"), "-c", 'cd "$0" && exec "$@"', new.data_folder)
        programs.run(*here, programs.tools / "pg_upgrade", "--check", *user, *old, *data, "-s", new.data_folder)
    except RuntimeError as error:
        failure = error
    server.start()
    lists = list(new.data_folder.rglob("invalid_logical_slots.txt"))
    if failure is not None and not lists:
        raise failure
    texts = [file.read_text("utf-8") for file in lists]
    return set(re.findall(r'The slot "(\w+)"', "".join(texts)))


def rewind(former: Postgres, promoted: Postgres) -> None:
    """Run pg_rewind, which also copies the promoted server's settings and removes the former primary's slots."""
    settings = (former.data_folder / "postgresql.conf").read_text("utf-8")
    former.binaries.run(
        former.binaries.tools / "pg_rewind",
        *("-D", former.data_folder, f"--source-server={promoted.conninfo()}", "--no-sync"),
    )
    (former.data_folder / "postgresql.conf").write_text(settings, "utf-8")

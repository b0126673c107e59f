"""pg_createsubscriber makes a standby a subscriber; its slot is on the primary, where a transaction can block it."""

import os
from pathlib import Path

import pytest

from tests.support.consumers.seen import blockers, comes_to, in_creation, reasons
from tests.support.servers import binaries
from tests.support.servers.processes import Process, wait_for
from tests.support.servers.stack import PRIMARY_NODE, Stack

SLOT = "made_subscriber"
SECONDS = 120


# pg_createsubscriber works only on servers of its own version; for 17 the tests have a server but not the tool.
@pytest.mark.parametrize("major", [18, 19])
@pytest.mark.servers
def test_createsubscriber_continues_when_the_named_blocker_commits(major: int, tmp_path: Path) -> None:
    with Stack(major=major) as stack:
        stack.start_databases(rows=20)
        stack.start_exporter()
        tool = createsubscriber(stack, tmp_path)
        with stack.primary.hold_transaction("nightly batch") as holder:
            tool.start()
            try:
                comes_to(lambda: in_creation(stack.primary), {SLOT}, 60)
                comes_to(lambda: reasons(stack, PRIMARY_NODE), {SLOT: "transaction"})
                comes_to(lambda: blockers(stack), {SLOT: (str(holder.pid), "nightly batch")})
                assert tool.running
                holder.commit()
                wait_for(lambda: not tool.running, "it has ended", SECONDS, tool.log)
            finally:
                code = tool.stop()
        assert code == 0, tool.log.read_text("utf-8")
        stack.standby.start()
        stack.primary.sql("INSERT INTO orders VALUES (100, 'written afterwards')")
        row = "SELECT item FROM orders WHERE id = 100"
        wait_for(lambda: stack.standby.sql(row), "the standby that was has the row", log=stack.standby.process.log)
        assert stack.standby.sql("SELECT pg_catalog.pg_is_in_recovery()") == [(False,)]


def createsubscriber(stack: Stack, folder: Path) -> Process:
    """Stop the standby and return the process, not yet started, that will turn it into a subscriber."""
    programs = binaries.find(stack.folder, stack.major)
    stack.standby.stop()
    # The tool runs as the servers' user and has to own their folders: it could not change files written as root.
    sockets = stack.folder / "sockets"
    sockets.mkdir()
    if programs.user is not None:
        for path in (sockets, *stack.standby.data_folder.iterdir()):
            os.chown(path, programs.user, programs.user)
    command: list[str | Path] = [
        *(programs.tools / "pg_createsubscriber", "--verbose", f"--recovery-timeout={SECONDS}"),
        *("--pgdata", stack.standby.data_folder, f"--subscriber-port={stack.standby.port}", "--socketdir", sockets),
        *(f"--publisher-server={stack.primary.conninfo()}", "--subscriber-username=postgres", "--database=postgres"),
        *(f"--replication-slot={SLOT}", "--publication=all_of_it", "--subscription=all_of_it"),
    ]
    return Process(command, folder / "pg_createsubscriber.log", user=programs.user)

"""`heal --conninfo` as a person runs it: on a primary and its standby, without a configuration file."""

import os
import pty
import re
import signal
import subprocess

import pytest

from tests.support import in_process
from tests.support.hanging_creations import blocked_creation, hanging_creation
from tests.support.running_healer import nothing_left_behind, usable
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import free_port, wait_for
from tests.support.servers.programs import HEALER_PROGRAM
from tests.support.servers.stack import EXPORTER_ROLE, HEALER_ROLE, Stack

SECRET = "hunter2-correct"


def conninfo(*servers: Postgres, user: str = "postgres", ports: str = "") -> str:
    """Return a conninfo that lists these servers; `ports`: of hosts before them."""
    listed = ",".join(filter(None, (ports, *(str(server.port) for server in servers))))
    hosts = ",".join("127.0.0.1" for _ in listed.split(","))
    return f"host={hosts} port={listed} user={user} dbname=postgres"


def both(stack: Stack, user: str = "postgres", ports: str = "") -> str:
    return conninfo(stack.primary, stack.standby, user=user, ports=ports)


def healed(given: str, *flags: str) -> tuple[int, str, str]:
    """Run the command; return its exit code and what it printed."""
    done = in_process.run("pg-slot-healer", "heal", f"--conninfo={given}", *flags)
    return done.returncode, done.stdout, done.stderr


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, given: str, *flags: str) -> None:
        self._primary_end, secondary = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            [HEALER_PROGRAM, "heal", f"--conninfo={given}", *flags], stdin=secondary, stdout=secondary, stderr=secondary
        )
        os.close(secondary)

    def until(self, text: str) -> None:
        """Read until it shows this."""
        while text not in self.shown:
            self.shown += os.read(self._primary_end, 4096).decode()

    def type(self, text: str) -> None:
        os.write(self._primary_end, text.encode())

    def end(self) -> int:
        """Read to its end; return its exit code."""
        try:
            while part := os.read(self._primary_end, 4096):
                self.shown += part.decode()
        except OSError:
            # So Linux reports that nobody has the terminal open any more.
            pass
        os.close(self._primary_end)
        return self.process.wait(30)


def test_without_a_slot_that_waits_it_says_so(databases: Stack) -> None:
    code, output, _ = healed(both(databases), "--yes")
    assert code == 0
    assert re.match(
        r"reading the slots of 127.0.0.1:\d+, 127.0.0.1:\d+\n"
        r"127.0.0.1:\d+: primary, PostgreSQL \S+\n127.0.0.1:\d+: standby, PostgreSQL \S+\n",
        output,
    )
    assert "nothing to heal: no slot creation waits" in output


def test_hanging_creation_is_shown_healed_and_proven(databases: Stack) -> None:
    primary, standby = databases.primary, databases.standby
    with hanging_creation(databases, "by_hand") as creator:
        _wait_a_second(standby, "by_hand")
        code, output, _ = healed(both(databases), "--dry-run")
        assert (code, creator.done) == (1, False)
        assert f"slot by_hand on 127.0.0.1:{standby.port}: waiting for running_xacts" in output
        assert f"would call pg_log_standby_snapshot() on the primary 127.0.0.1:{primary.port}: up to 5 times" in output
        code, output, _ = healed(both(databases, ports=str(free_port())), "--yes")
        assert creator.wait(5)
    assert "by_hand: healed: usable after our call" in output
    # A host that is down may have a slot that waits, too.
    assert code == 2
    assert re.search(r"127.0.0.1:\d+: could not be read: unreachable", output)
    assert re.search(r"whether a slot waits on 127.0.0.1:\d+ is unknown", output)
    assert nothing_left_behind(primary, standby)
    databases.drop_slot("by_hand")


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("\x04", 1), ("y\n", 0)])
def test_person_at_the_terminal_is_asked(databases: Stack, answer: str, code: int) -> None:
    with hanging_creation(databases, "asked") as creator:
        _wait_a_second(databases.standby, "asked")
        terminal = Terminal(both(databases))
        terminal.until("Go ahead? [y/N] ")
        assert nothing_left_behind(databases.primary, databases.standby)
        terminal.type(answer)
        assert terminal.end() == code
        assert usable(databases.standby, "asked") is (code == 0)
        assert creator.done is (code == 0)
    assert ("nothing was done" in terminal.shown) is (code == 1)
    databases.drop_slot("asked")


@pytest.mark.parametrize("when", ["Go ahead?", "still working"])
def test_interrupt_at_any_time_leaves_nothing_behind(databases: Stack, when: str) -> None:
    with blocked_creation(databases, "interrupted"):
        _wait_a_second(databases.standby, "interrupted")
        terminal = Terminal(both(databases))
        terminal.until("Go ahead?")
        if when != "Go ahead?":
            terminal.type("y\n")
            terminal.until(when)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
        assert "Traceback" not in terminal.shown
        wait_for(lambda: nothing_left_behind(databases.primary, databases.standby), "no session is left")
    databases.drop_slot("interrupted")


def test_transaction_in_the_way_is_named_with_the_command_that_ends_it(databases: Stack) -> None:
    with blocked_creation(databases, "blocked", application="nightly") as (holder, _):
        _wait_a_second(databases.standby, "blocked")
        code, output, _ = healed(both(databases), "--yes", "--give-up-after=3s")
    assert code == 1
    assert f"with pid {holder.pid}, user postgres, application nightly, idle in transaction" in output
    assert f"on the primary 127.0.0.1:{databases.primary.port}: SELECT pg_terminate_backend(pid)" in output
    assert f"WHERE pid = {holder.pid} AND backend_xid = " in output
    databases.drop_slot("blocked")
    with databases.primary.hold_transaction() as holder, databases.primary.create_slot("there"):
        _wait_a_second(databases.primary, "there")
        # No call helps a creation on the primary, so that there is nothing to ask.
        code, output, _ = healed(both(databases), "--yes")
    assert code == 1
    assert f"WHERE pid = {holder.pid} AND backend_xid = " in output
    assert "then the server logs the record itself: no call is needed" in output
    assert "would" not in output
    databases.drop_slot("there")


def test_missing_privileges_come_with_the_statement_that_grants_them(databases: Stack) -> None:
    with hanging_creation(databases, "powerless") as creator:
        _wait_a_second(databases.standby, "powerless")
        code, output, _ = healed(both(databases, EXPORTER_ROLE), "--yes")
        assert code == 2
        grant = f'GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO "{EXPORTER_ROLE}";'
        assert f'cannot heal: missing_privilege. In database "postgres": {grant}' in output
        code, output, _ = healed(both(databases, HEALER_ROLE), "--yes")
        assert code == 2
        assert f'GRANT pg_read_all_stats, pg_read_all_settings TO "{HEALER_ROLE}";' in output
        assert not creator.done
    databases.drop_slot("powerless")


def test_standby_alone_is_not_enough(databases: Stack) -> None:
    with hanging_creation(databases, "alone") as creator:
        _wait_a_second(databases.standby, "alone")
        code, output, _ = healed(conninfo(databases.standby), "--yes")
        assert not creator.done
    assert code == 2
    assert "slot alone on" in output
    assert "cannot heal: no_primary" in output
    assert "add the primary to the hosts of --conninfo" in output
    databases.drop_slot("alone")


def test_hosts_of_two_clusters_are_refused_by_name(databases: Stack, other_cluster: Postgres) -> None:
    with hanging_creation(databases, "foreign") as creator:
        code, _, errors = healed(both(databases, ports=str(other_cluster.port)), "--yes")
        assert not creator.done
    assert code == 2
    assert re.search(
        rf"expected hosts of one cluster, found 2 clusters: 127.0.0.1:{other_cluster.port} \(system identifier \d+\);"
        rf" 127.0.0.1:{databases.primary.port}, 127.0.0.1:{databases.standby.port} \(system identifier \d+\)",
        errors,
    )
    databases.drop_slot("foreign")


@pytest.fixture(scope="module")
def other_cluster(databases: Stack) -> Postgres:
    return databases.single()


def test_several_slots_that_wait_are_listed_and_one_can_be_named(databases: Stack) -> None:
    with hanging_creation(databases, "first"), databases.standby.create_slot("second") as second:
        _wait_a_second(databases.standby, "second")
        code, _, errors = healed(both(databases), "--yes")
        node = f"127.0.0.1:{databases.standby.port}"
        assert code == 2
        assert (
            f"expected a name, once for each slot to heal, as several wait: first on {node}, second on {node}" in errors
        )
        code, output, _ = healed(both(databases), "--yes", "--slot=second")
        assert (code, second.wait(5)) == (0, True)
        assert "slot second: healed" in output
        code, _, errors = healed(both(databases), "--yes", "--slot=third")
        assert code == 2
        assert "expected a slot of these servers, found 'third'" in errors
    for slot in ("first", "second"):
        databases.drop_slot(slot)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "expected either CLUSTER or --conninfo, found neither"),
        (["c", "--conninfo=host=a"], "expected either CLUSTER or --conninfo, found both"),
        (["--conninfo=host=a", "--config.file=x"], "expected either --config.file or --conninfo, found both"),
        (["--conninfo=host=a"], "expected --yes or --dry-run where there is no terminal to ask at"),
        (["--conninfo=host=a", "--json"], "expected --yes or --dry-run with --json"),
        ([f"--conninfo=host=a {SECRET}", "--yes"], "found a word without"),
        (["--conninfo=host=a,b,c port=1,2", "--yes"], "could not match 2 port numbers to 3 hosts"),
        ([f"--conninfo=host={','.join(['a'] * 33)}", "--yes"], "expected at most 32 hosts, found 33"),
    ],
)
def test_bad_input_is_refused_before_any_server_is_asked(arguments: list[str], expected: str) -> None:
    done = in_process.run("pg-slot-healer", "heal", *arguments)
    assert done.returncode == 2
    assert expected in done.stderr + done.stdout
    assert SECRET not in done.stderr + done.stdout


def test_password_is_never_printed(databases: Stack) -> None:
    code, output, errors = healed(f"{both(databases)} password={SECRET}", "--yes")
    assert code == 0
    assert "--conninfo has a password, which every user of this machine can read" in errors
    assert SECRET not in output + errors
    _, output, errors = healed(f"host=127.0.0.1 port={free_port()} user=x password={SECRET}", "--yes", "--json")
    assert SECRET not in output + errors


def _wait_a_second(server: Postgres, slot: str) -> None:
    """Wait until the creation is old enough for a record to help it."""
    query = (
        "SELECT 1 FROM pg_catalog.pg_replication_slots s JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid"
        " WHERE s.slot_name = %s AND a.query_start < pg_catalog.clock_timestamp() - interval '1 s'"
    )
    wait_for(lambda: server.sql(query, [slot]), f"the creation of {slot} waits")

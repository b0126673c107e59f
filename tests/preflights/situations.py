"""The situations of each version of PostgreSQL, spread so that each needs few servers and restarts."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
from psycopg.conninfo import make_conninfo

from tests.preflights.comparison import DATABASE, USER, Comparison, line, pg_hba_line
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.sessions import Statement
from tests.support.servers.stack import CREATE_EXPORTER, Stack

Situations = Callable[[Stack], Comparison]

RECORD = "SELECT pg_catalog.pg_log_standby_snapshot()"


def on_14(stack: Stack) -> Comparison:
    """Limits of a small server, and the user."""
    comparison = _single(stack, max_replication_slots="2", max_wal_senders="2")
    primary = comparison.primary
    comparison.works("a primary where nothing stands in the way")
    with _slots(primary, "one", "two"):
        comparison.fails("all replication slots exist", "replication slots")
    with ExitStack() as senders:
        for _ in range(2):
            walsender = psycopg.connect(f"{primary.conninfo()} replication=database", autocommit=True)
            senders.enter_context(walsender)
        comparison.fails("all WAL senders run", "WAL senders")
    comparison.fails("the user does not have REPLICATION", "user", user="reader")
    comparison.fails("the user does not exist", "user", user="nobody_here")
    primary.sql(f"ALTER ROLE {USER} NOLOGIN")
    comparison.fails("the user may not log in", "user")
    primary.sql(f"ALTER ROLE {USER} LOGIN")
    primary.sql_in_one_transaction(
        "BEGIN", "SELECT pg_catalog.pg_current_xact_id()", "PREPARE TRANSACTION 'two phases'"
    )
    comparison.waits(
        "a prepared transaction is open",
        ("transactions",),
        _once(lambda: primary.sql("ROLLBACK PREPARED 'two phases'")),
        "when it is rolled back",
    )
    return comparison


def on_15(stack: Stack) -> Comparison:
    """wal_level, access, and a standby that is too old."""
    comparison = _single(stack, wal_level="replica")
    primary = comparison.primary
    comparison.fails("wal_level is replica, before 19", "wal_level")
    primary.sql("ALTER SYSTEM SET wal_level = 'logical'")
    primary.restart()
    rejected = f"host {DATABASE} {USER} 127.0.0.1/32 reject"
    with pg_hba_line(primary, rejected):
        comparison.fails("pg_hba.conf rejects the user", "pg_hba.conf")
    comparison.fails("the database does not exist", "database", database="nowhere")
    primary.sql(f"REVOKE CONNECT ON DATABASE {DATABASE} FROM PUBLIC")
    comparison.fails("the user may not connect to the database", "database")
    primary.sql(f"GRANT CONNECT ON DATABASE {DATABASE} TO PUBLIC")
    comparison.fails("the plugin is not installed", "plugin", plugin="wal2json", observer="postgres")
    comparison.works("another plugin, which is installed", plugin="test_decoding", observer="postgres")
    holder = primary.hold_transaction(dbname="postgres")
    comparison.waits(
        "a transaction is open in another database", ("transactions",), _once(holder.commit), "when it commits"
    )
    holder.connection.close()
    holder = primary.hold_transaction(dbname="postgres")
    comparison.waits(
        "a transaction is open, and our role has no privileges at all",
        ("transactions",),
        _once(holder.commit),
        "when it commits",
        observer="reader",
    )
    holder.connection.close()
    standby = primary.standby("old")
    stack.cleanup.callback(standby.stop)
    comparison.servers = (primary, standby)
    comparison.fails("a standby, before 16", "server", standby)
    return comparison


def on_16(stack: Stack) -> Comparison:
    """A standby: its primary is idle, or has a transaction; replay is paused."""
    comparison = _pair(stack)
    primary, standby = comparison.servers
    with stack.quiet():
        comparison.waits(
            "a standby of an idle primary", ("record",), _forced(primary), "when somebody asks for a record", standby
        )
        holder = primary.hold_transaction()
        comparison.waits(
            "a standby, while a transaction is open on the primary",
            ("transactions", "record"),
            _in_order(_once(holder.commit), _forced(primary)),
            "when it has committed and somebody asks for records",
            standby,
        )
        holder.connection.close()
        standby.sql("SELECT pg_catalog.pg_wal_replay_pause()")
        paused = "SELECT 1 WHERE pg_catalog.pg_get_wal_replay_pause_state() = 'paused'"
        wait_for(lambda: primary.sql(RECORD) and standby.sql(paused), "replay is paused")
        resume = _once(lambda: standby.sql("SELECT pg_catalog.pg_wal_replay_resume()"))
        comparison.waits(
            "a standby whose replay is paused",
            ("replay", "record"),
            _in_order(resume, _forced(primary)),
            "when replay goes on and somebody asks for records",
            standby,
        )
    comparison.works("a primary that has a standby")
    return comparison


def on_17(stack: Stack) -> Comparison:
    """Transactions that do not block, timeouts, names, and a primary that writes."""
    comparison = _pair(stack)
    primary, standby = comparison.servers
    with psycopg.connect(primary.conninfo()) as reader:
        reader.execute("SELECT count(*) FROM orders")
        comparison.works("only a transaction without an xid is open")
    said = comparison.say(publication="missing")
    error = _decoding_error(primary, "missing")
    comparison.add(
        "the publication does not exist, before 18",
        said,
        f"the creation works, and its consumer fails: {error}",
        agrees=said["outcome"] == "at_once" and "does not exist" in error and _fails(said) == ["publication"],
    )
    with _slots(primary, "taken"):
        comparison.fails("a slot of this name exists", "slot name", slot="taken")
    primary.sql(f"ALTER ROLE {USER} SET lock_timeout = '300ms'")
    with primary.hold_transaction():
        said = comparison.say()
        error = _creation_error(primary)
    primary.sql(f"ALTER ROLE {USER} RESET lock_timeout")
    timed_out = "lock timeout" in error
    comparison.add(
        "a transaction is open, and the user has a short lock_timeout",
        said,
        "the creation waits, and its lock_timeout ends it" if timed_out else error,
        agrees=timed_out and said["outcome"] == "waits" and "lock_timeout" in line(said, "timeouts")["text"],
    )
    primary.sql_in_one_transaction("BEGIN", "SELECT pg_catalog.pg_current_xact_id()", "PREPARE TRANSACTION 'above'")
    with stack.quiet():
        comparison.waits(
            "a standby, while a transaction is prepared on the primary",
            ("transactions", "record"),
            _in_order(_once(lambda: primary.sql("ROLLBACK PREPARED 'above'")), _forced(primary)),
            "when it is rolled back and somebody asks for records",
            standby,
        )
    with _writing(primary):
        comparison.waits(
            "a standby of a primary that writes",
            ("record",),
            lambda: False,
            "by itself",
            standby,
            bounded=True,
        )
    return comparison


def on_18(stack: Stack) -> Comparison:
    """The publication, passwords, and a standby whose user asks for the record itself."""
    comparison = _pair(stack)
    primary, standby = comparison.servers
    said = comparison.say(publication="missing")
    error = _decoding_error(primary, "missing")
    comparison.add(
        "the publication does not exist, from 18 on",
        said,
        error or "the creation works, and its consumer gets nothing, without an error",
        agrees=said["outcome"] == "at_once"
        and not error
        and _fails(said) == ["publication"]
        and "without an error" in line(said, "publication")["text"],
    )
    with psycopg.connect(primary.conninfo(dbname=DATABASE), autocommit=True) as session:
        session.execute("CREATE TABLE bare (id int); CREATE TABLE heartbeat (id int PRIMARY KEY)")
        session.execute("CREATE PUBLICATION bare FOR TABLE bare; CREATE PUBLICATION sound FOR TABLE heartbeat")
        said = comparison.say(publication="bare")
        assert _decoding_error(primary, "bare") == ""
        session.execute("INSERT INTO bare VALUES (1)")
        try:
            session.execute("UPDATE bare SET id = 2")
            error = "no error"
        except psycopg.errors.ObjectNotInPrerequisiteState as failure:
            error = str(failure).splitlines()[0]
        comparison.add(
            "a published table has no replica identity",
            said,
            f"the creation works, and UPDATE fails: {error}",
            agrees="replica identity" in error and _fails(said) == ["replica identity"],
        )
        said = comparison.say(publication="sound")
        session.execute("INSERT INTO heartbeat VALUES (1)")
        error = _decoding_error(primary, "sound")
        comparison.add(
            "a sound publication with a heartbeat table",
            said,
            error or "the creation works, and its consumer reads",
            agrees=not error and not _fails(said) and line(said, "heartbeat")["status"] == "ok",
        )
    with pg_hba_line(primary, f"host {DATABASE} {USER} 127.0.0.1/32 scram-sha-256"):
        said = comparison.say()
        primary.sql(f"ALTER ROLE {USER} PASSWORD 'known'")
        error = _creation_error(primary, password="known")
        comparison.add(
            "the server asks the user for a password that our passfile does not have",
            said,
            error or "the creation works for a consumer that has it",
            agrees=not error and said["outcome"] == "unknown" and line(said, "pg_hba.conf")["status"] == "unknown",
        )
    primary.sql(f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO {USER}")
    primary.wait_until_replayed(standby)
    with stack.quiet():

        def ask() -> bool:
            with psycopg.connect(primary.conninfo(USER), autocommit=True) as own:
                own.execute(RECORD)
            return False

        comparison.waits(
            "a standby of an idle primary, whose user may ask for a record",
            ("record",),
            ask,
            "when the user asks for one",
            standby,
        )
        assert "cdc may ask for one itself" in line(comparison.say(standby), "record")["text"]
    return comparison


def on_19(stack: Stack) -> Comparison:
    """wal_level = replica, with which 19 decodes while a slot exists; the plugin of REPACK."""
    comparison = _pair(stack, wal_level="replica")
    primary, standby = comparison.servers
    comparison.works("wal_level is replica, from 19 on")
    effective = "SELECT 1 WHERE pg_catalog.current_setting('effective_wal_level') = %s"
    wait_for(lambda: standby.sql(effective, ["replica"]), "the standby follows")
    comparison.fails("a standby, while its primary has wal_level = replica and no slot", "wal_level", standby)
    with _slots(primary, "keeps_decoding"):
        wait_for(lambda: standby.sql(effective, ["logical"]), "the standby follows")
        with stack.quiet():
            comparison.waits(
                "a standby, while its primary has wal_level = replica and a slot",
                ("record",),
                _forced(primary),
                "when somebody asks for a record",
                standby,
            )
    comparison.fails("the plugin of REPACK", "plugin", plugin="pgrepack")
    return comparison


SITUATIONS: dict[int, Situations] = {14: on_14, 15: on_15, 16: on_16, 17: on_17, 18: on_18, 19: on_19}
"""By major version."""


def compare(major: int) -> Comparison:
    """Play the situations of one version on servers of its own."""
    with Stack(major=major) as stack:
        return SITUATIONS[major](stack)


def _single(stack: Stack, **settings: str) -> Comparison:
    server = stack.single(**settings)
    server.sql(CREATE_EXPORTER)
    _prepare(server)
    return Comparison((server,))


def _pair(stack: Stack, **settings: str) -> Comparison:
    stack.start_databases(0, **settings)
    _prepare(stack.primary)
    stack.primary.wait_until_replayed(stack.standby)
    return Comparison((stack.primary, stack.standby))


def _prepare(server: Postgres) -> None:
    server.sql(f"CREATE ROLE {USER} LOGIN REPLICATION")
    server.sql("CREATE ROLE reader LOGIN")
    server.sql(f"CREATE DATABASE {DATABASE}")


@contextmanager
def _slots(server: Postgres, *names: str) -> Iterator[None]:
    for name in names:
        server.sql("SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
    try:
        yield
    finally:
        for name in names:
            server.drop_slot(name)


@contextmanager
def _writing(server: Postgres) -> Iterator[None]:
    """Write WAL all the time, in short transactions."""
    ended = threading.Event()

    def write() -> None:
        with psycopg.connect(server.conninfo(), autocommit=True) as session:
            while not ended.wait(0.05):
                session.execute("SELECT pg_catalog.pg_logical_emit_message(false, 'preflights', 'busy')")

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        yield
    finally:
        ended.set()
        writer.join(10)


def _once(act: Callable[[], object]) -> Callable[[], bool]:
    """Return a function that does this at its first call, and is false."""
    done = False

    def call() -> bool:
        nonlocal done
        if not done:
            done = True
            act()
        return False

    return call


def _forced(primary: Postgres) -> Callable[[], bool]:
    return lambda: not primary.sql(RECORD)


def _in_order(*acts: Callable[[], bool]) -> Callable[[], bool]:
    def call() -> bool:
        # Every act, whatever the one before returned.
        results = [act() for act in acts]
        return any(results)

    return call


def _fails(said: dict[str, object]) -> list[str]:
    lines = said["lines"]
    assert isinstance(lines, list)
    return [found["check"] for found in lines if found["status"] == "fail"]


def _creation_error(server: Postgres, **parameters: str) -> str:
    """Return the error of a creation by the user, which ends by itself; empty: none."""
    conninfo = make_conninfo(server.conninfo(USER, DATABASE), replication="database", **parameters)
    with Statement(conninfo, 'CREATE_REPLICATION_SLOT "short" LOGICAL pgoutput') as creation:
        ended = creation.wait(30)
    server.drop_slot("short")
    assert ended, "it did not end by itself"
    return creation.error or ""


def _decoding_error(server: Postgres, publication: str) -> str:
    """Return the error of a consumer that reads this publication; empty: none."""
    with psycopg.connect(server.conninfo(USER, DATABASE), autocommit=True) as consumer:
        consumer.execute("SELECT pg_catalog.pg_create_logical_replication_slot('consumed', 'pgoutput')")
        with psycopg.connect(server.conninfo(dbname=DATABASE), autocommit=True) as writer:
            writer.execute("CREATE TABLE IF NOT EXISTS passing (id int)")
            writer.execute("INSERT INTO passing VALUES (1)")
        try:
            consumer.execute(
                "SELECT * FROM pg_catalog.pg_logical_slot_get_binary_changes("
                "'consumed', NULL, NULL, 'proto_version', '1', 'publication_names', %s)",
                [publication],
            )
        except psycopg.Error as error:
            return str(error).splitlines()[0]
        finally:
            server.drop_slot("consumed")
    return ""

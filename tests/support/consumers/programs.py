"""
Real consumers, of PostgreSQL and third parties: each follows a publication through a slot that it creates.

They print what they receive. Third-party consumers are in .venv/consumers, see install.sh; their scripts here follow
the examples of their documentation.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.servers import binaries
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import Process
from tests.support.servers.stack import Stack

TABLES = ("orders", "customers", "invoices")
PUBLICATION = "shop"
SUBSCRIPTION = "subscription"

_HERE = Path(__file__).parent
_INSTALLED = ROOT / ".venv" / "consumers"
_JAVA = "JAVA_TOOL_OPTIONS=-Xmx256m -XX:TieredStopAtLevel=1"
"""Debezium runs with all other consumers: it gets no more memory than it needs, and a fast start."""


class Consumer:
    """A program and its slot of the same name."""

    def __init__(self, name: str, command: Sequence[str | Path], publisher: Postgres, folder: Path) -> None:
        self.name = name
        self._publisher = publisher
        self.process = Process(command, folder / f"{name}.log")

    def start(self) -> None:
        self.process.start()

    def stop(self) -> None:
        self.process.stop()

    @property
    def output(self) -> str:
        """The program's output, including pgoutput's messages."""
        return self.process.log.read_bytes().decode("utf-8", "replace")

    @property
    def follows(self) -> bool:
        """Whether the slot is usable and in use."""
        return bool(
            self._publisher.sql(
                "SELECT 1 FROM pg_catalog.pg_replication_slots"
                " WHERE slot_name = %s AND active AND confirmed_flush_lsn IS NOT NULL",
                [self.name],
            )
        )

    def has(self, item: str) -> bool:
        """Return whether the row with this item has arrived."""
        return item in self.output


class Subscription(Consumer):
    """CREATE SUBSCRIPTION on another server; the command, psql, ends when the slot is made."""

    def __init__(self, publisher: Postgres, subscriber: Postgres, psql: Path, folder: Path) -> None:
        create = f"CREATE SUBSCRIPTION {SUBSCRIPTION} CONNECTION '{publisher.conninfo()}' PUBLICATION {PUBLICATION}"
        super().__init__(SUBSCRIPTION, [psql, "-X", "-d", subscriber.conninfo(), "-c", create], publisher, folder)
        self._subscriber = subscriber

    def stop(self) -> None:
        super().stop()
        # The session of psql may still wait for the publisher; only after that does the subscription exist.
        for statement in (
            "SELECT pg_catalog.pg_terminate_backend(pid, 10000) FROM pg_catalog.pg_stat_activity"
            " WHERE query LIKE 'CREATE SUBSCRIPTION%' AND state <> 'idle'",
            f"DROP SUBSCRIPTION IF EXISTS {SUBSCRIPTION}",
            *(f"TRUNCATE {table}" for table in TABLES),
        ):
            self._subscriber.sql(statement)

    @property
    def follows(self) -> bool:
        """Whether, in addition, all of its tables are copied and follow the publisher."""
        states = self._subscriber.sql("SELECT srsubstate FROM pg_catalog.pg_subscription_rel")
        return super().follows and states == [("r",)] * len(TABLES)

    def has(self, item: str) -> bool:
        """Return whether a row with this item has arrived in each table."""
        rows = (self._subscriber.sql(f"SELECT 1 FROM {table} WHERE item = %s", [item]) for table in TABLES)
        return all(map(len, rows))


def prepare(stack: Stack) -> None:
    """Create more published tables, on the publisher and on the subscriber."""
    stack.start_consumer()
    for server in (stack.primary, stack.consumer):
        for table in TABLES[1:]:
            server.sql(f"CREATE TABLE {table} (LIKE orders INCLUDING ALL)")
    stack.primary.sql(f"ALTER PUBLICATION {PUBLICATION} ADD TABLE {', '.join(TABLES[1:])}")


def insert(primary: Postgres, item: str) -> None:
    """Write a row with this item to each table."""
    primary.sql_in_one_transaction(
        *(f"INSERT INTO {table} SELECT coalesce(max(id), 0) + 1, '{item}' FROM {table}" for table in TABLES)
    )


def all_of(stack: Stack, publisher: Postgres, folder: Path) -> list[Consumer]:
    """Return one consumer of each kind for this server, not started; `folder`: for their files."""
    tools = binaries.find(stack.folder, stack.major).tools
    python = _INSTALLED / "bin" / "python"
    port = str(publisher.port)
    commands: dict[str, list[str | Path]] = {
        "pg_recvlogical": [
            *(tools / "pg_recvlogical", "--create-slot", "--start", "--slot=pg_recvlogical", "--plugin=pgoutput"),
            *("--option=proto_version=1", f"--option=publication_names={PUBLICATION}", "--file=-"),
            f"--dbname={publisher.conninfo()}",
        ],
        "psycopg2": [python, _HERE / "psycopg2_stream.py", publisher.conninfo(), "psycopg2", PUBLICATION],
        "pg_logical_replication": [
            *("env", f"NODE_PATH={_INSTALLED / 'node_modules'}", "node", _HERE / "pg_logical_replication.cjs"),
            *(port, "pg_logical_replication", PUBLICATION),
        ],
        "debezium": [
            *("env", _JAVA, python, _HERE / "debezium_engine.py"),
            *(port, "debezium", PUBLICATION, folder / "debezium.offsets"),
        ],
    }
    return [
        *(Consumer(name, command, publisher, folder) for name, command in commands.items()),
        Subscription(publisher, stack.consumer, tools / "psql", folder),
    ]


@contextmanager
def following(*consumers: Consumer) -> Iterator[None]:
    """Run the consumers within the context."""
    with ExitStack() as running:
        for consumer in consumers:
            running.callback(consumer.stop)
            consumer.start()
        yield

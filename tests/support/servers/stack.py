"""The whole stack: servers, exporter, healer, Prometheus and Alertmanager, on loopback in a temporary directory."""

import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGTERM
from types import TracebackType
from typing import Self

import yaml

from healer.commands.grants import ENDER_ROLE
from pgslot.snapshot.privileges import ROLES, grant_listing
from tests.support.servers import binaries
from tests.support.servers.monitoring import Alertmanager, Prometheus
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import free_port, wait_for
from tests.support.servers.programs import Program
from tests.support.servers.sessions import Statement

CLUSTER = "demo"
PRIMARY_NODE = "demo-1"
STANDBY_NODE = "demo-2"
EXPORTER_ROLE = "pgslot_exporter"
HEALER_ROLE = "pgslot_healer"
POWERLESS_ROLE = "pgslot_healer_powerless"
"""A healer's role without the privilege to execute the function."""

CREATE_EXPORTER = f"CREATE ROLE {EXPORTER_ROLE} LOGIN IN ROLE {', '.join(ROLES)}; {grant_listing(EXPORTER_ROLE)}"
"""The exporter's role with the privileges that `pg-slot-healer grants` gives it, and no others."""

_ROLES = f"""
{CREATE_EXPORTER};
CREATE ROLE {HEALER_ROLE} LOGIN;
CREATE ROLE {POWERLESS_ROLE} LOGIN;
CREATE TABLE orders (id int PRIMARY KEY, item text NOT NULL);
CREATE PUBLICATION shop FOR TABLE orders;
"""
_SINCE_16 = f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO {HEALER_ROLE}"


class Stack:
    """
    A context that ends all of its processes; with `keep` they outlive this process, and a file has their pids.

    With `as_shipped` Prometheus scrapes and evaluates as in the shipped prometheus.yml, otherwise every second.
    `healer`: keys of the healer's section in the configuration; None removes a key. `end_transactions`: keys of that
    section of the cluster, without its conninfo; None: there is no such section. `alertmanagers`: as many form a
    cluster, and the healer knows the first.
    """

    primary: Postgres
    standby: Postgres
    consumer: Postgres
    exporter: Program
    healer: Program
    prometheus: Prometheus
    alertmanager: Alertmanager

    def __init__(
        self,
        *,
        major: int = binaries.NEWEST,
        thresholds: Mapping[str, str] | None = None,
        as_shipped: bool = False,
        keep: bool = False,
        healer: Mapping[str, object] | None = None,
        end_transactions: Mapping[str, object] | None = None,
        alertmanagers: int = 1,
    ) -> None:
        self.major = major
        self._end_transactions = end_transactions
        self._healer_settings = healer or {}
        self._alertmanagers = alertmanagers
        self.keep = keep
        self._as_shipped = as_shipped
        self.folder = Path(tempfile.mkdtemp(prefix="pgslot-"))
        # The unprivileged user that runs PostgreSQL needs access.
        self.folder.chmod(0o755)
        self._thresholds = thresholds or {}
        self.cleanup = ExitStack()
        self._restore = ExitStack()
        self.addresses = {
            name: f"127.0.0.1:{free_port()}" for name in ("exporter:9877", "healer:9878", "alertmanager:9093")
        }
        self.token_file = self.folder / "webhook-token"
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(secrets.token_hex(16), "utf-8")
        self.addresses["/run/secrets/webhook-token"] = str(self.token_file)

    @property
    def healer_running(self) -> bool:
        return hasattr(self, "healer") and self.healer.process.running

    def start_databases(self, rows: int = 0, **settings: str) -> None:
        """Start a primary with roles, a published table and these settings, and its standby."""
        programs = binaries.find(self.folder, self.major)
        self.primary = Postgres.primary(programs, self.folder, "primary", outlive_us=self.keep, **settings)
        self.cleanup.callback(self.primary.stop)
        self.primary.sql(_ROLES)
        if self.major >= 16:
            self.primary.sql(_SINCE_16)
        self.primary.sql(f"INSERT INTO orders SELECT n, 'item ' || n FROM generate_series(1, {rows}) AS n")
        self.standby = self.primary.standby("standby")
        self.cleanup.callback(self.standby.stop)

    def single(self, **settings: str) -> Postgres:
        """Start a single server with these settings."""
        programs = binaries.find(self.folder, self.major)
        server = Postgres.primary(programs, self.folder, "single", outlive_us=self.keep, **settings)
        self.cleanup.callback(server.stop)
        return server

    def start_consumer(self) -> None:
        """Start a third server, which subscribes later."""
        programs = binaries.find(self.folder, self.major)
        self.consumer = Postgres.primary(programs, self.folder, "consumer", outlive_us=self.keep)
        self.cleanup.callback(self.consumer.stop)
        self.consumer.sql("CREATE TABLE orders (id int PRIMARY KEY, item text NOT NULL)")

    def start_exporter(self) -> None:
        self.exporter = self._program("pg-slot-exporter", "exporter:9877", HEALER_ROLE)
        self.exporter.start()

    def start_healer(self, *, may_execute: bool = True) -> None:
        """Start the healer; `may_execute` chooses a role with or without the privilege that it needs."""
        role = HEALER_ROLE if may_execute else POWERLESS_ROLE
        self.healer = self._program("pg-slot-healer", "healer:9878", role)
        self.healer.start()

    def stop_healer(self) -> None:
        if self.healer_running:
            self.healer.stop()

    def start_monitoring(self) -> None:
        """Start Alertmanager and Prometheus."""
        self.alertmanager, *more = alertmanagers = self._cluster_of_alertmanagers()
        self.prometheus = Prometheus(
            self.folder,
            self.addresses,
            self._thresholds,
            as_shipped=self._as_shipped,
            outlive_us=self.keep,
            alertmanagers=[server.address for server in alertmanagers],
        )
        for server in (self.alertmanager, *more, self.prometheus):
            self.cleanup.callback(server.stop)
            server.start()
        exporter = self.addresses["exporter:9877"]
        wait_for(
            lambda: self.prometheus.query(f'up{{instance="{exporter}"}} == 1'), "Prometheus has scraped the exporter"
        )

    def _cluster_of_alertmanagers(self) -> list[Alertmanager]:
        if self._alertmanagers == 1:
            return [Alertmanager(self.folder, self.addresses, outlive_us=self.keep)]
        gossip = [f"127.0.0.1:{free_port()}" for _ in range(self._alertmanagers)]
        first = self.addresses["alertmanager:9093"]
        addresses = [first, *(f"127.0.0.1:{free_port()}" for _ in gossip[1:])]
        return [
            Alertmanager(
                self.folder,
                self.addresses | {"alertmanager:9093": address},
                outlive_us=self.keep,
                name=f"alertmanager-{number}",
                cluster_address=own,
                peers=[peer for peer in gossip if peer != own],
            )
            for number, (address, own) in enumerate(zip(addresses, gossip, strict=True), start=1)
        ]

    def wait_until_idle(self) -> None:
        """Wait until a slot created on the standby will hang, see Postgres.wait_until_idle."""
        self.primary.wait_until_idle(self.standby)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Let creations on the standby hang at once: no running-xacts record is on its way, and none will come."""
        with self.primary.no_records_by_itself():
            # Wait for the end of a last record: the insert position could be after the header of a new page.
            self.primary.wait_until_replayed(self.standby, "pg_catalog.pg_log_standby_snapshot()")
            yield

    def make_slot_on_standby(self, name: str) -> None:
        """Create a usable logical slot on the standby, by forced records; on 19 the primary needs a slot first."""
        setting = "SELECT coalesce(pg_catalog.current_setting('effective_wal_level', true), 'logical')"
        wait_for(lambda: self.standby.sql(setting) == [("logical",)], "the standby can have logical slots")
        record = "SELECT pg_catalog.pg_log_standby_snapshot()"
        with self.standby.create_slot(name) as creator:
            wait_for(lambda: creator.wait(0.2) or not self.primary.sql(record), f"{name} is made")
            assert creator.error is None, creator.error

    def drop_slot(self, name: str) -> None:
        for server in (self.primary, self.standby):
            server.drop_slot(name)

    def subscribe(self) -> Statement:
        """Run CREATE SUBSCRIPTION on the consumer; the publisher is the standby."""
        return Statement(
            self.consumer.conninfo(),
            f"CREATE SUBSCRIPTION shop CONNECTION '{self.standby.conninfo()}' PUBLICATION shop",
        )

    def unsubscribe(self) -> None:
        self.consumer.sql("DROP SUBSCRIPTION shop")

    def consumer_rows(self) -> int:
        [(count,)] = self.consumer.sql("SELECT count(*) FROM orders")
        return int(count)

    def pids(self) -> dict[str, int]:
        """Return the pids of all running processes, by name."""
        names = ("primary", "standby", "consumer", "exporter", "healer", "prometheus", "alertmanager")
        parts = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return {name: part.process.pid for name, part in parts.items() if part.process.running}

    def urls(self) -> dict[str, str]:
        return {
            name: getattr(self, name).url
            for name in ("exporter", "healer", "prometheus", "alertmanager")
            if hasattr(self, name)
        }

    def __enter__(self) -> Self:
        self.cleanup.callback(shutil.rmtree, self.folder, ignore_errors=True)
        if threading.current_thread() is threading.main_thread() and signal.getsignal(SIGTERM) == signal.SIG_DFL:
            # SIGTERM raises KeyboardInterrupt, which pytest understands, so that it cleans up as well.
            signal.signal(SIGTERM, signal.default_int_handler)
            self._restore.callback(signal.signal, SIGTERM, signal.SIG_DFL)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with self._restore:
            self._end()

    def _end(self) -> None:
        if self.keep:
            (self.folder / "pids").write_text("".join(f"{pid} {name}\n" for name, pid in self.pids().items()), "utf-8")
        else:
            self.cleanup.close()

    def _program(self, name: str, address: str, healer_role: str) -> Program:
        port = int(self.addresses[address].rpartition(":")[2])
        program = Program(name, self._config(name, healer_role), self.folder, port=port, outlive_us=self.keep)
        self.cleanup.callback(program.stop)
        return program

    def _config(self, name: str, healer_role: str) -> Path:
        """Write the configuration file of one program."""
        servers = (self.primary, self.standby)
        ports = ",".join(str(server.port) for server in servers)
        primary = f"host=127.0.0.1,127.0.0.1 port={ports} target_session_attrs=read-write dbname=postgres"
        nodes = dict(zip((PRIMARY_NODE, STANDBY_NODE), servers, strict=True))
        settings = {
            "alertmanager_url": f"http://{self.addresses['alertmanager:9093']}",
            "webhook_token_file": str(self.token_file),
            **self._healer_settings,
        }
        healer: dict[str, object] = {"conninfo": f"{primary} user={healer_role}"}
        if self._end_transactions is not None:
            healer["end_transactions"] = {"conninfo": f"{primary} user={ENDER_ROLE}", **self._end_transactions}
        config = {
            "clusters": {
                CLUSTER: {
                    "nodes": {node: {"conninfo": server.conninfo(EXPORTER_ROLE)} for node, server in nodes.items()},
                    "healer": healer,
                }
            },
            "healer": {key: value for key, value in settings.items() if value is not None},
        }
        file = self.folder / f"{name}.yml"
        file.write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
        return file

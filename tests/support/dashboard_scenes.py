"""
Three clusters on real servers with everything that the dashboards show, for the dashboards' tests and pictures.

`orders` has a primary and a standby, which an imitation of Patroni lists; `billing` one server with a small WAL limit,
where the healer lacks its privilege; `reports` one server for which the healer is disabled.
"""

import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import requests
import yaml

from healer.commands.grants import ENDER_ROLE
from tests.support.blocking_transactions import APPLICATION, holding, set_up_roles, wait_until_blocked
from tests.support.failover_slots import (
    advance_horizon,
    create_failover_slot,
    read_all,
    stop_synchronising,
    synchronise,
)
from tests.support.fakes.patroni import a_patroni
from tests.support.servers import binaries
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import Process, wait_for
from tests.support.servers.sessions import Statement
from tests.support.servers.stack import CREATE_EXPORTER, EXPORTER_ROLE, HEALER_ROLE, POWERLESS_ROLE, Stack

SECOND_HOST = "localhost"
FIRST_RULES = "first-exporter.rules.yml"
LIMIT = "256MB"
"""max_slot_wal_keep_size of billing."""
WAL_VOLUME = "2GB"
"""The volume that holds the WAL of billing, by its configuration."""


def of_first_exporter(expr: str) -> str:
    """Return the PromQL expression without the series from the second address, also for recorded series."""
    without_second = f'instance!~"{SECOND_HOST}.*"'
    expr = re.sub(r"(?<![:\w])(pgslot_\w+)\{", rf"\1{{{without_second},", expr)
    expr = re.sub(r"(?<![:\w])(pgslot_\w+)\b(?![{:])", rf"\1{{{without_second}}}", expr)
    return re.sub(r"\b([a-z]+:pgslot_\w+:\w+)\b", r"\1:first", expr)


def _first_only(rule: dict[str, str]) -> dict[str, str]:
    return {"record": of_first_exporter(rule["record"]), "expr": of_first_exporter(rule["expr"])}


class Fleet(Stack):
    """A stack whose exporter and healer have three clusters in their configuration."""

    billing: Postgres
    reports: Postgres
    _patroni_url: str

    def __init__(self, *, thresholds: Mapping[str, str] | None = None) -> None:
        super().__init__(thresholds=thresholds)
        self._running = ExitStack()

    def start_everything(self) -> None:
        self.start_databases()
        self.billing = self._server(
            "billing", max_slot_wal_keep_size=f"'{LIMIT}'", max_wal_size="'64MB'", logical_decoding_work_mem="'64kB'"
        )
        self.billing.sql("CREATE TABLE invoices (id int, item text)")
        self.reports = self._server("reports", max_slot_wal_keep_size="-1")
        self.reports.sql("SELECT pg_catalog.pg_create_logical_replication_slot('monthly', 'pgoutput')")
        self.cleanup.callback(self._running.close)
        members = {"orders-1": self.primary, "orders-2": self.standby}
        self._patroni_url = self.cleanup.enter_context(a_patroni(members))
        set_up_roles(self.primary)
        self.start_exporter()
        self.start_monitoring()
        self.start_healer()

    def scrape_twice(self) -> None:
        """
        Let Prometheus scrape both programs under a second address, as if there were two of each.

        Prometheus then also records every recorded series from the first address alone, under the name that
        of_first_exporter() has for it.
        """
        home = self.folder / "prometheus"
        file = home / "prometheus.yml"
        config = yaml.safe_load(file.read_text("utf-8"))
        recording = [
            {
                "name": f"first-{group['name']}",
                "rules": [_first_only(rule) for rule in group["rules"] if "record" in rule],
            }
            for rule_file in config["rule_files"]
            for group in yaml.safe_load((home / rule_file).read_text("utf-8"))["groups"]
        ]
        (home / FIRST_RULES).write_text(yaml.safe_dump({"groups": recording}, width=10_000), "utf-8")
        config["rule_files"].append(FIRST_RULES)
        for job in config["scrape_configs"]:
            [target] = job["static_configs"][0]["targets"]
            job["static_configs"][0]["targets"].append(target.replace("127.0.0.1", SECOND_HOST))
        file.write_text(yaml.safe_dump(config), "utf-8")
        self.prometheus.process.send(signal.SIGHUP)

    def scrape_every(self, interval: str) -> None:
        """Let Prometheus scrape and evaluate at this interval, in place of every second."""
        file = self.folder / "prometheus" / "prometheus.yml"
        config = yaml.safe_load(file.read_text("utf-8"))
        config["global"] |= dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), interval)
        file.write_text(yaml.safe_dump(config), "utf-8")
        self.prometheus.process.send(signal.SIGHUP)

    def lose_a_slot(self, name: str) -> None:
        """Write more WAL than the limit with an unused slot, which the checkpoint then invalidates."""
        self.billing.sql("SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
        self.write(300)
        self.billing.sql("CHECKPOINT")
        lost = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s AND wal_status = 'lost'"
        wait_for(lambda: self.billing.sql(lost, [name]), f"{name} is lost")

    def write(self, megabytes: int) -> None:
        """Write WAL on billing that no consumer receives."""
        self.billing.sql(
            "SELECT count(pg_catalog.pg_logical_emit_message(false, '', pg_catalog.repeat('x', 1000000)))"
            " FROM pg_catalog.generate_series(1, %s)",
            [megabytes],
        )

    def fill_the_volume_of_reports(self) -> None:
        """Write WAL on reports, whose only slot is unused, until the rules predict when its volume is full."""
        # Prometheus' scrapes of a second leave the exporter no time to list the WAL directory.
        self.exporter.get("/metrics")
        for _ in range(3):
            self.reports.sql(
                "SELECT count(pg_catalog.pg_logical_emit_message(false, '', pg_catalog.repeat('x', 1000000)))"
                " FROM pg_catalog.generate_series(1, 10)"
            )
            time.sleep(1)
        self.until("the end of the volume is predicted", "node:pgslot_wal_volume_full:seconds15m")

    def insert(self, rows: int) -> None:
        """Insert rows on billing in one transaction, which spills to disk during decoding."""
        self.billing.sql(
            "INSERT INTO invoices SELECT n, pg_catalog.repeat('x', 100) FROM pg_catalog.generate_series(1, %s) AS n",
            [rows],
        )

    def order(self, rows: int) -> None:
        """Insert rows on orders in one transaction."""
        self.primary.sql(
            "INSERT INTO orders SELECT (SELECT coalesce(max(id), 0) FROM orders) + n, 'item'"
            " FROM pg_catalog.generate_series(1, %s) AS n",
            [rows],
        )

    def consume(self, name: str) -> None:
        """Start a consumer on billing that confirms everything that it receives."""
        program = self.billing.binaries.tools / "pg_recvlogical"
        self.billing.sql("SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'test_decoding')", [name])
        arguments = ["--start", f"--slot={name}", "--file=-", "--status-interval=1", "--fsync-interval=1"]
        process = Process([program, f"--dbname={self.billing.conninfo()}", *arguments], self.folder / f"{name}.log")
        self.cleanup.callback(process.stop)
        process.start()

    def unused_slot(self, name: str) -> None:
        self.billing.sql("SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')", [name])

    def prepare_and_forget(self, gid: str) -> None:
        self.billing.sql_in_one_transaction("SELECT pg_catalog.pg_current_xact_id()", f"PREPARE TRANSACTION '{gid}'")

    def hold(self, application_name: str) -> None:
        """Leave a transaction open on billing that has written a row, until the stack ends."""
        transaction = self._running.enter_context(self.billing.hold_transaction(application_name=application_name))
        transaction.connection.execute("INSERT INTO invoices VALUES (0, 'held')")

    def create(self, slot: str) -> None:
        """Create a slot on billing; with an open transaction the creation hangs until the stack ends."""
        self._running.enter_context(self.billing.create_slot(slot))

    @contextmanager
    def stuck_creation(self, slot: str) -> Iterator[Statement]:
        """Create a slot on the standby of orders, where the creation hangs until a record is forced."""
        with self.quiet(), self.standby.create_slot(slot) as creator:
            yield creator

    def end_transactions(self) -> None:
        """Alert the healer to two transactions on orders that block creations; it may terminate only one."""
        for slot_name, application in (("not_allowed", "somebody-else"), ("endangered", APPLICATION)):
            with holding(self.primary, application=application), self.primary.create_slot(slot_name) as creator:
                wait_until_blocked(self.primary, slot_name)
                before = self._refusals()
                self._post_alert(slot_name)
                if application == APPLICATION:
                    assert creator.wait(60)
                    wait_for(self._ender_is_done, "the episode has ended")
                else:
                    wait_for(partial(self._refused_since, before), "it is refused")
            self.primary.drop_slot(slot_name)

    def _ender_is_done(self) -> bool:
        episodes = self.healer.get_json("/episodes")
        return all(episode["outcome"] for episode in episodes if episode["remedy"] == "end_transaction")

    def _refused_since(self, before: float) -> bool:
        return self._refusals() > before

    def _refusals(self) -> float:
        return self.healer.value("pgslot_heal_refusals_total", guard="application_not_allowed") or 0

    def _post_alert(self, slot_name: str) -> None:
        labels = {"heal": "end_transaction", "cluster": "orders", "node": "orders-1", "slot_name": slot_name}
        body = {"version": "4", "alerts": [{"status": "firing", "labels": labels, "fingerprint": slot_name}]}
        token = {"Authorization": f"Bearer {(self.folder / 'webhook-token').read_text()}"}
        requests.post(f"{self.healer.url}/alerts", json=body, headers=token, timeout=10).raise_for_status()

    def make_failover_slots(self) -> None:
        """
        Create two failover slots on orders, which its standby copies from now on; one copy is ready, one is not.

        Call it before the standby has other slots, which hold back its horizon so that every copy is ready at once.
        """
        create_failover_slot(self.primary, "protected")
        create_failover_slot(self.primary, "polled")
        advance_horizon(self.primary, self.standby)
        synchronise(self.standby)
        read_all(self.primary, "protected")

    def leave_slots_unprotected(self) -> None:
        """Let the standby of orders synchronise no more, withdraw its feedback, and drop the original of a copy."""
        for setting in ("sync_replication_slots", "hot_standby_feedback"):
            self.standby.sql(f"ALTER SYSTEM SET {setting} = off")
        self.standby.sql("SELECT pg_catalog.pg_reload_conf()")
        self.primary.drop_slot("protected")

    def read_failover_slots(self) -> None:
        """Read everything in both failover slots, as consumers that poll do; their copies are ready soon afterwards."""
        for name in ("protected", "polled"):
            read_all(self.primary, name)

    def unready_failover_slot(self, name: str) -> None:
        """Create a failover slot on orders that the standby does not copy: its synchronisation is switched off."""
        stop_synchronising(self.standby)
        create_failover_slot(self.primary, name)

    def until(self, what: str, query: str, timeout: float = 90) -> None:
        """Wait until the Prometheus query has a result."""
        wait_for(lambda: self.prometheus.query(query), what, timeout)

    def _server(self, name: str, **settings: str) -> Postgres:
        programs = binaries.find(self.folder, self.major)
        server = Postgres.primary(programs, self.folder, name, outlive_us=self.keep, **settings)
        self.cleanup.callback(server.stop)
        server.sql(f"{CREATE_EXPORTER}; CREATE ROLE {POWERLESS_ROLE} LOGIN")
        return server

    def _config(self, name: str, healer_role: str) -> Path:
        def target(server: Postgres) -> dict[str, object]:
            at = f"host=127.0.0.1 port={server.port} target_session_attrs=read-write"
            return {"conninfo": f"{at} dbname=postgres user={POWERLESS_ROLE}"}

        def nodes(**servers: Postgres) -> dict[str, dict[str, str]]:
            return {
                node.replace("_", "-"): {"conninfo": server.conninfo(EXPORTER_ROLE)} for node, server in servers.items()
            }

        file = super()._config(name, healer_role)
        config = yaml.safe_load(file.read_text("utf-8"))
        config["clusters"] = {
            "orders": {
                "patroni": {"urls": [self._patroni_url], "interval": "1s"},
                "conninfo": f"dbname=postgres user={EXPORTER_ROLE}",
                "healer": {
                    "conninfo": f"dbname=postgres user={HEALER_ROLE}",
                    "end_transactions": {
                        "conninfo": f"dbname=postgres user={ENDER_ROLE}",
                        "dry_run": False,
                        "applications": [APPLICATION],
                        "idle_in_transaction_for": "1s",
                        "at_most_per_hour": 10,
                    },
                },
            },
            "billing": {
                "wal_volume": WAL_VOLUME,
                "nodes": nodes(billing_1=self.billing),
                "healer": target(self.billing),
            },
            "reports": {
                "wal_volume": "250MB",
                "nodes": nodes(reports_1=self.reports),
                "healer": {
                    **target(self.reports),
                    "enabled": False,
                    "disabled_reason": "migration until Friday",
                },
            },
        }
        file.write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
        return file

"""Produces the incidents behind the alerts on real servers and records which alerts fired, ended or were inhibited."""

import itertools
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
import requests
import yaml

from tests.support.failover_slots import (
    advance_horizon,
    create_failover_slot,
    drop_failover_slots,
    read_all,
    synchronising,
)
from tests.support.fakes.patroni import a_patroni
from tests.support.servers.conditions import changed_setting, stopped_process
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import NotReadyError, Process, wait_for
from tests.support.servers.stack import CLUSTER, EXPORTER_ROLE, STANDBY_NODE, Stack
from tests.support.servers.workload import confirmed_all, repeating, steady_writes, streaming_consumer, write_wal

GIVE_UP_AFTER = "3s"
MEBIBYTE = 1024 * 1024
ENDANGERED = tuple(f"endangered_{number}" for number in range(4))
"""Slots that share the way of the slot `unused`: PgSlotManyEndangered needs five."""


@dataclass
class Incidents:
    """A stack, the alerts that fired on it by (alert, slot), and the alerts that ended with their incident."""

    stack: Stack
    started: float = field(default_factory=time.time)
    fired: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    inhibited: set[tuple[str, str]] = field(default_factory=set)
    """(alert, slot) that Alertmanager inhibited because of another alert."""

    def fires(self, alert: str, slot: str = "", timeout: float = 60) -> None:
        """Wait until the alert fires, and record it in `fired`."""

        def firing() -> dict[str, Any] | None:
            for active in self.stack.prometheus.alerts():
                labels = active["labels"]
                about = (labels["alertname"], labels.get("slot_name", ""))
                if active["state"] == "firing" and about[0] == alert and about[1].startswith(slot):
                    return dict(active)
            return None

        self.fired[alert, slot] = wait_for(firing, f"{alert} fires for {slot or 'it'}", timeout)

    def ends(self, alert: str, timeout: float = 60) -> None:
        """Wait until the alert has ended, and record it in `ended`."""

        def over() -> bool:
            return all(active["labels"]["alertname"] != alert for active in self.stack.prometheus.alerts())

        wait_for(over, f"{alert} ends", timeout)
        self.ended.add(alert)

    def is_inhibited(self, alert: str, slot: str) -> None:
        """Wait until Alertmanager inhibits the alert, and record it in `inhibited`."""

        def inhibited() -> bool:
            return any(
                active["labels"]["alertname"] == alert
                and active["labels"].get("slot_name", "") == slot
                and active["status"]["inhibitedBy"]
                for active in self.stack.alertmanager.alerts()
            )

        wait_for(inhibited, f"{alert} of {slot} is held back")
        self.inhibited.add((alert, slot))


def run_all_incidents(stack: Stack) -> Incidents:
    """Run all incidents, some of them at the same time."""
    stack.start_databases()
    stack.primary.sql("CREATE TABLE written (n int)")
    # The privilege is missing from the first scrape on: the alert needs it denied for most of ten minutes.
    stack.primary.sql(f"REVOKE pg_read_all_stats FROM {EXPORTER_ROLE}")
    stack.start_exporter()
    stack.start_healer(may_execute=False)
    stack.start_monitoring()
    incidents = Incidents(stack)
    denied_probe(incidents)
    crashing_consumer(incidents)
    retried_creation(incidents)
    renamed_creations(incidents)
    healer_without_privilege(incidents)
    with streaming_consumer(stack.primary, "cdc", stack.folder), stopped_process(stack.primary, "background writer"):
        stack.primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('unused', 'pgoutput')")
        with missing_standby(incidents):
            blocking_transactions(incidents)
        stalled_slot(incidents)
        lost_slot(incidents)
    overdue_episode(incidents)
    many_slots_and_an_old_slot(incidents)
    unready_failover_slot(incidents)
    unprotected_slot(incidents)
    invalid_configurations(incidents)
    incidents.ends("PgSlotCreationsFailing", timeout=300)
    refused_login(incidents)
    stopped_programs_and_servers(incidents)
    switchover(incidents)
    return incidents


def denied_probe(incidents: Incidents) -> None:
    incidents.fires("PgSlotProbeFailing")
    incidents.stack.primary.sql(f"GRANT pg_read_all_stats TO {EXPORTER_ROLE}")
    incidents.ends("PgSlotProbeFailing")


def crashing_consumer(incidents: Incidents) -> None:
    """A consumer is killed every few seconds, before it confirms anything, while WAL is written."""
    stack, primary = incidents.stack, incidents.stack.primary
    primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('crashing', 'test_decoding')")
    write_wal(primary, 140 * MEBIBYTE)
    program = primary.binaries.tools / "pg_recvlogical"
    arguments = ["--start", "--slot=crashing", "--file=-", "--status-interval=3600", "--fsync-interval=0", "--no-loop"]

    consumer = Process([program, f"--dbname={primary.conninfo()}", *arguments], stack.folder / "crashing.log")

    with repeating(lambda: write_wal(primary, MEBIBYTE), 0.5):
        for _ in range(15):
            consumer.start()
            time.sleep(2)
            consumer.kill()
            with suppress(NotReadyError):
                incidents.fires("PgSlotNotConfirmed", "crashing", timeout=2)
                break
        assert ("PgSlotNotConfirmed", "crashing") in incidents.fired
    primary.drop_slot("crashing")
    incidents.ends("PgSlotNotConfirmed")


def retried_creation(incidents: Incidents) -> None:
    with failing_creations(incidents.stack.primary, itertools.repeat("retried")):
        incidents.fires("PgSlotCreationRetried", "retried")
    incidents.ends("PgSlotCreationRetried", timeout=90)


def renamed_creations(incidents: Incidents) -> None:
    """Every attempt uses another name, as PgSlotCreationsFailing is silent while an alert that names the slot fires."""
    with failing_creations(incidents.stack.primary, (f"renamed_{number}" for number in itertools.count())):
        incidents.fires("PgSlotCreationsFailing", timeout=300)


@contextmanager
def failing_creations(primary: Postgres, names: Iterator[str]) -> Iterator[None]:
    """Run a client that gives up after 1.5 s and tries again, while a transaction blocks every attempt."""
    stop = threading.Event()
    created: list[str] = []

    def create_until_stopped() -> None:
        with psycopg.connect(primary.conninfo(), autocommit=True, application_name="impatient") as client:
            client.execute("SET lock_timeout = '1500ms'")
            while not stop.is_set():
                name = next(names)
                with suppress(psycopg.errors.LockNotAvailable):
                    client.execute("SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
                    created.append(name)
                    return

    client = threading.Thread(target=create_until_stopped)
    with primary.hold_transaction(application_name="import"):
        client.start()
        try:
            yield
        finally:
            stop.set()
    client.join()
    for name in created:
        primary.drop_slot(name)


def many_slots_and_an_old_slot(incidents: Incidents) -> None:
    primary = incidents.stack.primary
    [(maximum, used)] = primary.sql(
        "SELECT pg_catalog.current_setting('max_replication_slots')::int, count(*) FROM pg_catalog.pg_replication_slots"
    )
    numbers = range(maximum * 9 // 10 - used + 1)
    for number in numbers:
        primary.sql("SELECT pg_catalog.pg_create_physical_replication_slot(%s)", [f"one_of_many_{number}"])
    incidents.fires("PgSlotsNearlyUsedUp")
    for number in numbers:
        primary.drop_slot(f"one_of_many_{number}")
    incidents.ends("PgSlotsNearlyUsedUp")
    primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('aged', 'pgoutput')")
    primary.sql("ALTER SYSTEM SET idle_replication_slot_timeout = '20s'")
    primary.sql("SELECT pg_catalog.pg_reload_conf()")
    # No checkpoint comes that would invalidate the slot.
    incidents.fires("PgSlotIdleTimeoutNear", "aged")
    primary.sql("ALTER SYSTEM RESET idle_replication_slot_timeout")
    primary.sql("SELECT pg_catalog.pg_reload_conf()")
    incidents.ends("PgSlotIdleTimeoutNear")
    with psycopg.connect(primary.conninfo(), autocommit=True) as session:
        for _ in range(1200):
            session.execute("SELECT pg_catalog.pg_current_xact_id()")
    incidents.fires("PgSlotXminOld", "aged")
    primary.drop_slot("aged")
    incidents.ends("PgSlotXminOld")


def unready_failover_slot(incidents: Incidents) -> None:
    """First no standby has a copy of the slot; then the copy stays temporary until the consumer has read a record."""
    primary, standby = incidents.stack.primary, incidents.stack.standby
    create_failover_slot(primary, "protected")
    incidents.fires("PgSlotNotFailoverReady", "protected")
    advance_horizon(primary, standby)
    with synchronising(standby):
        incidents.fires("PgSlotNotPersisted", "protected")
        incidents.is_inhibited("PgSlotNotFailoverReady", "protected")
        read_all(primary, "protected")
        incidents.ends("PgSlotNotPersisted")
        incidents.ends("PgSlotNotFailoverReady")
    drop_failover_slots(primary, standby)


def unprotected_slot(incidents: Incidents) -> None:
    """A standby withdraws its feedback; the alert fires before a vacuum of a catalog invalidates the standby's slot."""
    stack, primary, standby = incidents.stack, incidents.stack.primary, incidents.stack.standby
    stack.make_slot_on_standby("unprotected")
    lost = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = 'unprotected' AND wal_status = 'lost'"

    def invalidated() -> bool:
        primary.sql("CREATE TABLE passing (id int)")
        primary.sql("DROP TABLE passing")
        primary.sql("VACUUM pg_catalog.pg_class")
        primary.wait_until_replayed(standby)
        return bool(standby.sql(lost))

    with changed_setting(standby, "hot_standby_feedback", "off"):
        # What feedback kept on the primary is withdrawn within 10 s; a transaction then passes the slot.
        with repeating(lambda: primary.sql("SELECT pg_catalog.pg_current_xact_id()"), 1):
            incidents.fires("PgSlotCatalogUnprotected", "unprotected")
        assert not standby.sql(lost)
        wait_for(invalidated, "the slot is invalidated")
    incidents.ends("PgSlotCatalogUnprotected")
    standby.drop_slot("unprotected")
    incidents.ends("PgSlotLost")


def invalid_configurations(incidents: Incidents) -> None:
    stack = incidents.stack
    file = stack.folder / "pg-slot-exporter.yml"
    right = file.read_text("utf-8")
    file.write_text("clusters: {}", "utf-8")
    stack.exporter.process.send(signal.SIGHUP)
    incidents.fires("PgSlotConfigReloadFailed")
    file.write_text(right, "utf-8")
    stack.exporter.process.send(signal.SIGHUP)
    incidents.ends("PgSlotConfigReloadFailed")
    config = yaml.safe_load(right)
    del config["clusters"][CLUSTER]["nodes"][STANDBY_NODE]
    with a_patroni({stack.primary.name: stack.primary}) as url:
        patroni = {"urls": [url], "interval": "500ms"}
        config["clusters"]["silent"] = {"patroni": patroni, "conninfo": f"dbname=postgres user={EXPORTER_ROLE}"}
        file.write_text(yaml.safe_dump(config), "utf-8")
        stack.exporter.process.send(signal.SIGHUP)
        incidents.fires("PgSlotUnlistedStandby")
        answered = 'pgslot_patroni_last_answer_timestamp_seconds{cluster="silent"}'
        wait_for(lambda: stack.prometheus.query(answered), "Patroni has answered")
    incidents.fires("PgSlotPatroniSilent")
    file.write_text(right, "utf-8")
    stack.exporter.process.send(signal.SIGHUP)
    incidents.ends("PgSlotUnlistedStandby")
    incidents.ends("PgSlotPatroniSilent")


def switchover(incidents: Incidents) -> None:
    """
    Runs last. The new primary lacks slots, which its consumers create again; the former primary keeps what it had.

    `left_over` and `left_clashing` are certainly a former primary's, as they have failover set and are no copies.
    """
    stack, former, promoted = incidents.stack, incidents.stack.primary, incidents.stack.standby
    create = "SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')"
    former.sql(create, ["left_behind"])
    create_failover_slot(former, "left_over")
    create_failover_slot(former, "left_clashing")
    seen = 'count(slot:pgslot_on_primary:timestamp{slot_name=~"left_.*"}) == 3'
    wait_for(lambda: stack.prometheus.query(seen), "Prometheus knows of the slots")
    former.stop()
    promoted.promote()
    incidents.fires("PgSlotVanished", "left_behind")
    for slot in ("left_behind", "left_over"):
        promoted.sql(create, [slot])
    create_failover_slot(promoted, "left_clashing")
    incidents.ends("PgSlotVanished")
    promoted.sql("SELECT pg_catalog.pg_create_physical_replication_slot('primary')")
    former.demote(promoted)
    incidents.fires("PgSlotLeftover", "left_over")
    for slot in ("left_over", "left_clashing"):
        former.drop_slot(slot)
    incidents.ends("PgSlotLeftover")


def healer_without_privilege(incidents: Incidents) -> None:
    """The missing privilege is reported first; then a creation on the standby is stuck until a record is logged."""
    stack = incidents.stack
    incidents.fires("PgSlotHealUnavailable")
    incidents.fires("PgSlotWatchdog")
    stack.wait_until_idle()
    with stack.standby.create_slot("stuck") as creator:
        incidents.fires("PgSlotCreationWaiting", "stuck")
        incidents.fires("PgSlotCreationStuck", "stuck")
        wait_for(lambda: log_standby_snapshot(stack) and creator.wait(1), "the slot is made")
    incidents.ends("PgSlotCreationStuck")
    incidents.ends("PgSlotCreationWaiting")
    stack.standby.drop_slot("stuck")


@contextmanager
def missing_standby(incidents: Incidents) -> Iterator[None]:
    """Let a failover slot's walsender wait for a missing standby, which only the texts of other alerts name."""
    stack, primary = incidents.stack, incidents.stack.primary
    with (
        streaming_consumer(primary, "guarded", stack.folder, failover=True),
        changed_setting(primary, "synchronized_standby_slots", "'nosuch'"),
    ):
        yield
        awaited = {"slot_name": "guarded", "standby_slot": "nosuch"}
        wait_for(lambda: stack.exporter.value("pgslot_retention_standby_info", **awaited), "it is named", timeout=150)
        named = f'pgslot_retention_standby_info{{slot_name="{awaited["slot_name"]}"}}'
        wait_for(lambda: stack.prometheus.query(named), "Prometheus knows it")


def blocking_transactions(incidents: Incidents) -> None:
    """An open and a prepared transaction block a creation, and one pins a slot; a healer that could heal gives up."""
    stack, primary = incidents.stack, incidents.stack.primary
    with ExitStack() as creation:
        session = psycopg.connect(primary.conninfo(), application_name="nightly")
        with closing(session), prepared(primary, "order-7"):
            session.execute("INSERT INTO written VALUES (1)")
            creator = creation.enter_context(primary.create_slot("blocked"))
            incidents.fires("PgSlotCreationBlocked", "blocked")
            incidents.fires("PgSlotEndangeredByTransaction", "blocked")
            write_wal(primary, 150 * MEBIBYTE)
            log_standby_snapshot(stack)
            wait_for(confirmed_all(primary, "cdc"), "the consumer has confirmed all")
            incidents.fires("PgSlotPinnedByTransaction", "cdc")
            # While both are open nothing shows which of them pins the slot. When one has ended and the slot stays
            # pinned, WAL of more than a minute shows that it is the other one.
            session.rollback()
            creation.enter_context(steady_writes(primary, 1, 1000))
            incidents.fires("PgSlotPreparedTransactionForgotten")
            incidents.fires("PgSlotInactive", "unused")
            # The first heartbeat may be lost if Prometheus has not found Alertmanager yet; it is resent in a minute.
            wait_for(
                lambda: stack.healer.value("pgslot_heal_alerts_total", action="heartbeat"),
                "the heartbeat reaches the healer",
                timeout=90,
            )
            start_healer_with_short_deadline(stack)
            incidents.ends("PgSlotHealUnavailable")
            incidents.fires("PgSlotHealNoEffect", "blocked")
            wait_for(
                lambda: stack.exporter.samples("pgslot_retention_blocker_age_seconds", slot_name="cdc"),
                "the transaction that pins the slot is named",
                timeout=180,
            )
            wait_for(
                lambda: stack.prometheus.query('pgslot_retention_blocker_age_seconds{backend_type="prepared"}'),
                "Prometheus knows it",
            )
        wait_for(lambda: creator.done, "the slot is made")
    for alert in (
        "PgSlotCreationBlocked",
        "PgSlotEndangeredByTransaction",
        "PgSlotPinnedByTransaction",
        "PgSlotPreparedTransactionForgotten",
        "PgSlotHealNoEffect",
    ):
        incidents.ends(alert)
    primary.drop_slot("blocked")


def start_healer_with_short_deadline(stack: Stack) -> None:
    """Restart the healer with a short give_up_after; it asks Alertmanager for the running alerts."""
    stack.stop_healer()
    stack.start_healer()
    stack.stop_healer()
    file = stack.folder / "pg-slot-healer.yml"
    config = yaml.safe_load(file.read_text("utf-8"))
    config["healer"]["give_up_after"] = GIVE_UP_AFTER
    file.write_text(yaml.safe_dump(config), "utf-8")
    stack.healer.start()


@contextmanager
def prepared(server: Postgres, gid: str) -> Iterator[None]:
    """Keep a prepared transaction open inside the block."""
    server.sql_in_one_transaction("SELECT pg_catalog.pg_current_xact_id()", f"PREPARE TRANSACTION '{gid}'")
    yield
    server.sql(f"ROLLBACK PREPARED '{gid}'")


def stalled_slot(incidents: Incidents) -> None:
    """A consumer that confirmed all WAL gets no record, and no transaction is open; another slot runs out of WAL."""
    primary = incidents.stack.primary
    write_wal(primary, 20 * MEBIBYTE)
    wait_for(confirmed_all(primary, "cdc"), "the consumer has confirmed all")
    limit_retained_wal(primary, "256MB")
    for slot in ENDANGERED:
        primary.sql("SELECT pg_catalog.pg_copy_logical_replication_slot('unused', %s)", [slot])
    for _ in range(3):
        write_wal(primary, 10 * MEBIBYTE)
        time.sleep(1)
    incidents.fires("PgSlotLossPredicted", "unused")
    incidents.fires("PgSlotWalHeadroomLow", "unused")
    incidents.is_inhibited("PgSlotWalHeadroomLow", "unused")
    incidents.is_inhibited("PgSlotInactive", "unused")
    wait_for(confirmed_all(primary, "cdc"), "the consumer has confirmed all")
    incidents.fires("PgSlotStalled", "cdc", timeout=100)
    log_standby_snapshot(incidents.stack)
    incidents.ends("PgSlotStalled")


def lost_slot(incidents: Incidents) -> None:
    primary = incidents.stack.primary
    write_wal(primary, 60 * MEBIBYTE)
    primary.sql("CHECKPOINT")
    incidents.fires("PgSlotLost", "unused")
    incidents.is_inhibited("PgSlotLost", "unused")
    incidents.fires("PgSlotManyEndangered")
    incidents.ends("PgSlotWalHeadroomLow")
    incidents.ends("PgSlotInactive")
    for slot in ("unused", *ENDANGERED):
        primary.drop_slot(slot)
    incidents.ends("PgSlotLossPredicted")
    incidents.ends("PgSlotLost")
    incidents.ends("PgSlotManyEndangered")


def overdue_episode(incidents: Incidents) -> None:
    """An episode passes its deadline while it waits for a primary that accepts connections and does not answer."""
    stack = incidents.stack
    stack.wait_until_idle()
    with stack.standby.create_slot("overdue"):
        stack.primary.pause_all()
        try:
            labels = {"heal": "log_standby_snapshot", "cluster": CLUSTER, "node": STANDBY_NODE, "slot_name": "overdue"}
            alert = {"status": "firing", "fingerprint": "overdue", "labels": labels}
            token = {"Authorization": f"Bearer {(stack.folder / 'webhook-token').read_text()}"}
            body = {"version": "4", "alerts": [alert]}
            requests.post(f"{stack.healer.url}/alerts", json=body, headers=token, timeout=10).raise_for_status()
            incidents.fires("PgSlotHealOverdue")
        finally:
            stack.primary.resume_all()
        incidents.ends("PgSlotHealOverdue")
    stack.standby.drop_slot("overdue")


def refused_login(incidents: Incidents) -> None:
    """The exporter's role may not log in any more; on the standby as well, as it replays that."""
    primary = incidents.stack.primary
    primary.sql(f"ALTER ROLE {EXPORTER_ROLE} NOLOGIN")
    for server in (primary, incidents.stack.standby):
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [EXPORTER_ROLE])
    incidents.fires("PgSlotLoginFailed")
    primary.sql(f"ALTER ROLE {EXPORTER_ROLE} LOGIN")
    incidents.ends("PgSlotLoginFailed")


def stopped_programs_and_servers(incidents: Incidents) -> None:
    stack = incidents.stack
    stack.standby.stop()
    incidents.fires("PgSlotTargetDown")
    stack.standby.start()
    incidents.ends("PgSlotTargetDown")
    # Both jobs of prometheus.yml have the series, and both have to see each change.
    up = f'pgslot_up{{node="{STANDBY_NODE}"}}'
    for _ in range(4):
        stack.standby.stop()
        wait_for(lambda: stack.prometheus.query(f"max({up}) == 0"), "the standby is down")
        stack.standby.start()
        wait_for(lambda: stack.prometheus.query(f"min({up}) == 1"), "the standby is up")
    incidents.fires("PgSlotTargetFlapping")
    incidents.ends("PgSlotTargetFlapping")
    for alert, program in (("PgSlotHealerDown", stack.healer), ("PgSlotExporterDown", stack.exporter)):
        program.stop()
        incidents.fires(alert)
        program.start()
        incidents.ends(alert)


def log_standby_snapshot(stack: Stack) -> bool:
    stack.primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
    return True


def limit_retained_wal(server: Postgres, size: str) -> None:
    """Set how much WAL a slot may retain."""
    server.sql(f"ALTER SYSTEM SET max_slot_wal_keep_size = '{size}'")
    server.sql("SELECT pg_catalog.pg_reload_conf()")

"""The incidents that the alerts are about, each brought about on real servers; what alerted is returned."""

import itertools
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import CLUSTER, EXPORTER_ROLE, STANDBY_NODE, Stack
from tests.support.servers.workload import confirmed_all, streaming_consumer, write_wal

GIVE_UP_AFTER = "3s"
MEBIBYTE = 1024 * 1024


@dataclass
class Incidents:
    """A stack, the alerts that fired on it by (alert, slot), and those that ended with their incident."""

    stack: Stack
    started: float = field(default_factory=time.time)
    fired: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    inhibited: set[tuple[str, str]] = field(default_factory=set)
    """(alert, slot) that Alertmanager held back because of another one."""

    def fires(self, alert: str, slot: str = "", timeout: float = 60) -> None:
        """Wait until it fires, and remember it."""

        def firing() -> dict[str, Any] | None:
            for found in self.stack.prometheus.alerts():
                labels = found["labels"]
                about = (labels["alertname"], labels.get("slot_name", ""))
                if found["state"] == "firing" and about[0] == alert and about[1].startswith(slot):
                    return dict(found)
            return None

        found = wait_for(firing, f"{alert} fires for {slot or 'it'}", timeout)
        self.fired[alert, slot] = found

    def ends(self, alert: str, timeout: float = 60) -> None:
        """Wait until it has ended."""

        def over() -> bool:
            return all(found["labels"]["alertname"] != alert for found in self.stack.prometheus.alerts())

        wait_for(over, f"{alert} ends", timeout)
        self.ended.add(alert)

    def is_inhibited(self, alert: str, slot: str) -> None:
        """Wait until Alertmanager holds it back."""

        def held_back() -> bool:
            return any(
                found["labels"]["alertname"] == alert
                and found["labels"].get("slot_name", "") == slot
                and found["status"]["inhibitedBy"]
                for found in self.stack.alertmanager.alerts()
            )

        wait_for(held_back, f"{alert} of {slot} is held back")
        self.inhibited.add((alert, slot))


def all_of_them(stack: Stack) -> Incidents:
    """Bring all incidents about, several at a time."""
    stack.start_databases()
    stack.primary.sql("CREATE TABLE written (n int)")
    # From the first look on: what counts is the larger part of ten minutes.
    stack.primary.sql(f"REVOKE pg_monitor FROM {EXPORTER_ROLE}")
    stack.start_exporter()
    stack.start_healer(may_execute=False)
    stack.start_monitoring()
    incidents = Incidents(stack)
    a_probe_that_is_denied(incidents)
    a_creation_that_is_tried_again_and_again(incidents)
    creations_of_which_each_has_another_name(incidents)
    a_healer_without_privilege(incidents)
    with streaming_consumer(stack.primary, "cdc", stack.folder), stopped_process(stack.primary, "background writer"):
        stack.primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('unused', 'pgoutput')")
        with a_standby_that_does_not_exist(incidents):
            a_transaction_that_is_in_the_way(incidents)
        a_slot_that_nothing_holds_back(incidents)
        a_slot_that_is_lost(incidents)
    an_episode_that_does_not_end_in_time(incidents)
    slots_that_are_many_or_old(incidents)
    a_slot_that_would_not_survive_a_failover(incidents)
    a_configuration_that_is_wrong(incidents)
    incidents.ends("PgSlotCreationsFailing", timeout=300)
    programs_and_servers_that_are_down(incidents)
    a_failover(incidents)
    return incidents


def a_probe_that_is_denied(incidents: Incidents) -> None:
    incidents.fires("PgSlotProbeFailing")
    incidents.stack.primary.sql(f"GRANT pg_monitor TO {EXPORTER_ROLE}")
    incidents.ends("PgSlotProbeFailing")


def a_creation_that_is_tried_again_and_again(incidents: Incidents) -> None:
    with attempts(incidents.stack.primary, itertools.repeat("retried")):
        incidents.fires("PgSlotCreationRetried", "retried")
    incidents.ends("PgSlotCreationRetried", timeout=90)


def creations_of_which_each_has_another_name(incidents: Incidents) -> None:
    """What its own alert does not tell while one that knows the name does."""
    with attempts(incidents.stack.primary, (f"renamed_{number}" for number in itertools.count())):
        incidents.fires("PgSlotCreationsFailing", timeout=300)


@contextmanager
def attempts(primary: Postgres, names: Iterator[str]) -> Iterator[None]:
    """A client gives up after a second and a half; a transaction is in its way, which no attempt outlasts."""
    stop = threading.Event()
    made: list[str] = []

    def go_on() -> None:
        with psycopg.connect(primary.conninfo(), autocommit=True, application_name="impatient") as client:
            client.execute("SET lock_timeout = '1500ms'")
            while not stop.is_set():
                name = next(names)
                with suppress(psycopg.errors.LockNotAvailable):
                    client.execute("SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
                    made.append(name)
                    return

    client = threading.Thread(target=go_on)
    with primary.hold_transaction(application_name="import"):
        client.start()
        try:
            yield
        finally:
            stop.set()
    client.join()
    for name in made:
        primary.drop_slot(name)


def slots_that_are_many_or_old(incidents: Incidents) -> None:
    primary = incidents.stack.primary
    [(most, used)] = primary.sql(
        "SELECT pg_catalog.current_setting('max_replication_slots')::int, count(*) FROM pg_catalog.pg_replication_slots"
    )
    many = range(most * 9 // 10 - used + 1)
    for number in many:
        primary.sql("SELECT pg_catalog.pg_create_physical_replication_slot(%s)", [f"one_of_many_{number}"])
    incidents.fires("PgSlotsNearlyUsedUp")
    for number in many:
        primary.drop_slot(f"one_of_many_{number}")
    incidents.ends("PgSlotsNearlyUsedUp")
    primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('aged', 'pgoutput')")
    primary.sql("ALTER SYSTEM SET idle_replication_slot_timeout = '20s'")
    primary.sql("SELECT pg_catalog.pg_reload_conf()")
    # No checkpoint comes, which would make it true.
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


def a_slot_that_would_not_survive_a_failover(incidents: Incidents) -> None:
    """Nobody keeps a copy; then somebody does, which stays temporary until the slot's consumer has read a record."""
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


def a_configuration_that_is_wrong(incidents: Incidents) -> None:
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
    with a_patroni(stack.primary) as url:
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


def a_failover(incidents: Incidents) -> None:
    """The last: what was the primary does not come back. A consumer makes its slot anew."""
    stack = incidents.stack
    stack.primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('left_behind', 'pgoutput')")
    seen = 'slot:pgslot_on_primary:timestamp{slot_name="left_behind"}'
    wait_for(lambda: stack.prometheus.query(seen), "Prometheus knows of the slot")
    stack.primary.kill()
    stack.standby.promote()
    incidents.fires("PgSlotVanished", "left_behind")
    stack.standby.sql("SELECT pg_catalog.pg_create_logical_replication_slot('left_behind', 'pgoutput')")
    incidents.ends("PgSlotVanished")


def a_healer_without_privilege(incidents: Incidents) -> None:
    """It is known before anything is stuck; then something is, on the standby, and gets a record by hand."""
    stack = incidents.stack
    incidents.fires("PgSlotHealUnavailable")
    incidents.fires("PgSlotWatchdog")
    stack.wait_until_idle()
    with stack.standby.create_slot("stuck") as creator:
        incidents.fires("PgSlotCreationWaiting", "stuck")
        incidents.fires("PgSlotCreationStuck", "stuck")
        wait_for(lambda: record_by_hand(stack) and creator.wait(1), "the slot is made")
    incidents.ends("PgSlotCreationStuck")
    incidents.ends("PgSlotCreationWaiting")
    stack.standby.drop_slot("stuck")


@contextmanager
def a_standby_that_does_not_exist(incidents: Incidents) -> Iterator[None]:
    """A failover slot's walsender waits for it meanwhile; no alert of its own, but the texts of others name it."""
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


def a_transaction_that_is_in_the_way(incidents: Incidents) -> None:
    """One session's and a prepared one hold a creation up and pin a slot; a healer that could heal gives up."""
    stack, primary = incidents.stack, incidents.stack.primary
    with ExitStack() as creation:
        with psycopg.connect(primary.conninfo(), application_name="nightly") as writer, prepared(primary, "order-7"):
            writer.execute("INSERT INTO written VALUES (1)")
            creator = creation.enter_context(primary.create_slot("blocked"))
            incidents.fires("PgSlotCreationBlocked", "blocked")
            incidents.fires("PgSlotEndangeredByTransaction", "blocked")
            write_wal(primary, 150 * MEBIBYTE)
            record_by_hand(stack)
            wait_for(confirmed_all(primary, "cdc"), "the consumer has confirmed all")
            incidents.fires("PgSlotPinnedByTransaction", "cdc")
            incidents.fires("PgSlotPreparedTransactionForgotten")
            incidents.is_inhibited("PgSlotPinnedByTransaction", "cdc")
            incidents.fires("PgSlotInactive", "unused")
            # The first may be lost, as Prometheus does not know Alertmanager yet; it is sent again after a minute.
            wait_for(
                lambda: stack.healer.value("pgslot_heal_alerts_total", action="ignored_no_heal_label"),
                "the heartbeat reaches the healer",
                timeout=90,
            )
            start_a_healer_that_gives_up_soon(stack)
            incidents.ends("PgSlotHealUnavailable")
            incidents.fires("PgSlotHealNoEffect")
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


def start_a_healer_that_gives_up_soon(stack: Stack) -> None:
    """It asks Alertmanager what fires already."""
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
    """A prepared transaction that nobody ends."""
    server.sql_in_one_transaction("SELECT pg_catalog.pg_current_xact_id()", f"PREPARE TRANSACTION '{gid}'")
    yield
    server.sql(f"ROLLBACK PREPARED '{gid}'")


def a_slot_that_nothing_holds_back(incidents: Incidents) -> None:
    """The consumer has confirmed all, no transaction is open, and no record comes; another slot runs out of WAL."""
    primary = incidents.stack.primary
    write_wal(primary, 20 * MEBIBYTE)
    wait_for(confirmed_all(primary, "cdc"), "the consumer has confirmed all")
    limit(primary, "256MB")
    for _ in range(3):
        write_wal(primary, 10 * MEBIBYTE)
        time.sleep(1)
    incidents.fires("PgSlotLossPredicted", "unused")
    incidents.fires("PgSlotWalHeadroomLow", "unused")
    incidents.is_inhibited("PgSlotWalHeadroomLow", "unused")
    incidents.is_inhibited("PgSlotInactive", "unused")
    wait_for(confirmed_all(primary, "cdc"), "the consumer has confirmed all")
    incidents.fires("PgSlotStalled", "cdc", timeout=100)
    record_by_hand(incidents.stack)
    incidents.ends("PgSlotStalled")


def a_slot_that_is_lost(incidents: Incidents) -> None:
    primary = incidents.stack.primary
    write_wal(primary, 60 * MEBIBYTE)
    primary.sql("CHECKPOINT")
    incidents.fires("PgSlotLost", "unused")
    incidents.ends("PgSlotWalHeadroomLow")
    incidents.ends("PgSlotLossPredicted")
    incidents.ends("PgSlotInactive")
    primary.drop_slot("unused")
    incidents.ends("PgSlotLost")


def an_episode_that_does_not_end_in_time(incidents: Incidents) -> None:
    """Its time is over while it waits for a primary that takes connections and does not answer."""
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


def programs_and_servers_that_are_down(incidents: Incidents) -> None:
    stack = incidents.stack
    stack.standby.stop()
    incidents.fires("PgSlotTargetDown")
    stack.standby.start()
    incidents.ends("PgSlotTargetDown")
    for alert, program in (("PgSlotHealerDown", stack.healer), ("PgSlotExporterDown", stack.exporter)):
        program.stop()
        incidents.fires(alert)
        program.start()
        incidents.ends(alert)


def record_by_hand(stack: Stack) -> bool:
    stack.primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
    return True


def limit(server: Postgres, size: str) -> None:
    """Set how much WAL a slot may hold back."""
    server.sql(f"ALTER SYSTEM SET max_slot_wal_keep_size = '{size}'")
    server.sql("SELECT pg_catalog.pg_reload_conf()")

"""The files, commands, scripts and secrets of docker-compose.yml on real servers, without containers."""

import re
import signal
from collections.abc import Iterator

import psycopg
import pytest
import requests

from healer.commands.grants import script
from pgslot.snapshot.privileges import ROLES
from tests.support.compose.native import PORTS, SERVICES, Native
from tests.support.paths import ROOT
from tests.support.servers.processes import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STUCK_SLOT = "deploy/compose/stuck-slot.sh"


@pytest.fixture(scope="module")
def native() -> Iterator[Native]:
    with Native() as native:
        yield native


def test_all_services_except_grafana_run_on_this_machine() -> None:
    assert set(PORTS) | {"grafana"} == set(SERVICES)


@pytest.mark.parametrize("service", PORTS)
def test_service_passes_its_own_health_check(native: Native, service: str) -> None:
    assert native.healthy(service)


def test_health_check_fails_for_hung_program(native: Native) -> None:
    native.processes["exporter"].pause()
    try:
        assert not native.healthy("exporter")
    finally:
        native.processes["exporter"].resume()
    assert native.healthy("exporter")


def test_standby_streams_through_its_slot_with_replication_password(native: Native) -> None:
    assert native.sql("standby", "SELECT status, slot_name FROM pg_stat_wal_receiver") == "streaming|standby"
    password = (native.secrets / "replication-password").read_text("utf-8")
    assert password not in native.sql("standby", "SHOW primary_conninfo")


@pytest.mark.parametrize("service", ["standby", "primary"])
def test_server_keeps_its_data_over_restart(native: Native, service: str) -> None:
    identifier = native.sql(service, "SELECT system_identifier FROM pg_control_system()")
    process = native.processes[service]
    assert process.stop(signal.SIGINT) == 0
    process.start()
    wait_for(lambda: native.healthy(service), f"{service} is healthy again", log=process.log)
    assert native.sql(service, "SELECT system_identifier FROM pg_control_system()") == identifier
    streaming = "SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'"
    wait_for(lambda: native.sql("standby", streaming), "the standby streams again")


def test_healer_role_can_only_execute_pg_log_standby_snapshot(native: Native) -> None:
    for role in ROLES:
        assert native.sql("primary", f"SELECT pg_has_role('pgslot_exporter', '{role}', 'member')") == "t"
        assert native.sql("primary", f"SELECT pg_has_role('pgslot_healer', '{role}', 'member')") == "f"
    assert native.sql("primary", "SELECT pg_has_role('pgslot_exporter', 'pg_monitor', 'member')") == "f"
    function = "pg_catalog.pg_log_standby_snapshot()"
    for role, may in (("pgslot_healer", "t"), ("pgslot_exporter", "f")):
        assert native.sql("primary", f"SELECT has_function_privilege('{role}', '{function}', 'execute')") == may
    assert native.sql("primary", "SELECT count(*) FROM pg_roles WHERE rolsuper") == "1"


def test_roles_have_the_attributes_that_grants_gives(native: Native) -> None:
    attributes = set(re.findall(r"LOGIN CONNECTION LIMIT (\d+)", script("pgslot_exporter", "pgslot_healer")))
    assert len(attributes) == 1
    found = "SELECT DISTINCT rolconnlimit FROM pg_roles WHERE rolname IN ('pgslot_exporter', 'pgslot_healer')"
    assert {native.sql("primary", found)} == attributes


@pytest.mark.parametrize("user", ["postgres", "replicator", "pgslot_exporter", "pgslot_healer"])
def test_wrong_password_is_rejected(native: Native, user: str) -> None:
    """Passwords are checked: so the programs of the other tests connect because theirs are right."""
    conninfo = f"host=127.0.0.1 port={native.ports['primary']} dbname=postgres user={user} password=wrong"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(conninfo)


def test_prometheus_scrapes_both_programs_and_sees_both_nodes(native: Native) -> None:
    wait_for(lambda: len(native.query("up == 1")) == 3, "the exporter is scraped twice, the healer once", timeout=60)
    nodes = {sample["metric"]["node"] for sample in native.query("pgslot_up == 1")}
    assert nodes == {"demo-1", "demo-2"}
    rules = requests.get(f"http://127.0.0.1:{native.ports['prometheus']}/api/v1/rules", timeout=10).json()
    assert rules["data"]["groups"]


def test_stuck_slot_of_the_tutorial_is_healed(native: Native) -> None:
    """With the shipped thresholds and intervals, the slot hangs for at least two seconds before it is healed."""
    for file in ("docs/tutorial/see-it-heal.md", "docker-compose.yml"):
        assert re.search(rf"^#? *{re.escape(STUCK_SLOT)}\b", (ROOT / file).read_text("utf-8"), re.MULTILINE)
    done = native.run(STUCK_SLOT, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    seconds = re.search(r"The slot is there after (\d+) s", done.stdout)
    assert seconds is not None, done.stdout
    assert int(seconds[1]) >= 2
    assert "pg_log_standby_snapshot()" in done.stdout
    assert re.search(r"outcome=\"?healed", done.stdout), done.stdout
    slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'logical'"
    assert native.sql("standby", slots) == "0"
    wait_for(
        lambda: native.query('pgslot_heal_episodes_total{cluster="demo",outcome="healed"} == 1'),
        "Prometheus has the healed episode",
    )

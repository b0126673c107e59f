"""Exporter and healer follow the changing members of a real Patroni cluster, and heal a slot after every change."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
import pytest
import requests
import yaml

from tests.support import in_process
from tests.support.servers.patroni import SCOPE, Member, PatroniCluster, patroni_cluster
from tests.support.servers.processes import wait_for
from tests.support.servers.programs import Program, run_healer
from tests.support.servers.stack import CREATE_EXPORTER, EXPORTER_ROLE, HEALER_ROLE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

NAMES = ["orders-1", "orders-2", "orders-3"]
_ROLES = (
    CREATE_EXPORTER,
    f"CREATE ROLE {HEALER_ROLE} LOGIN",
    f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO {HEALER_ROLE}",
)


@dataclass
class PatroniStack:
    """The cluster and both programs, whose configuration has only three URLs for it."""

    patroni: PatroniCluster
    exporter: Program
    healer: Program
    config: Path

    def nodes(self) -> list[str]:
        answer = self.exporter.get("/sd")
        return [target["labels"]["__param_node"] for target in answer.json()] if answer.ok else []

    def until_nodes(self, *names: str) -> None:
        """Wait until exactly these nodes are configured and scraped."""
        wait_for(lambda: self.nodes() == sorted(names), f"the nodes are {names}")
        up = wait_for(lambda: self.exporter.samples("pgslot_up"), "they are scraped")
        assert {sample.labels["node"]: sample.value for sample in up} == dict.fromkeys(names, 1)
        assert self.exporter.value("pgslot_patroni_members", cluster=SCOPE) == len(names)

    def roles(self) -> dict[str, str]:
        return {sample.labels["node"]: sample.labels["role"] for sample in self.exporter.samples("pgslot_node_info")}


@pytest.fixture(scope="module")
def patroni_stack() -> Iterator[PatroniStack]:
    with tempfile.TemporaryDirectory(prefix="pgslot-patroni-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with patroni_cluster(folder, *NAMES) as cluster:
            for statement in _ROLES:
                cluster.leader().sql(statement)
            config = folder / "pgslot.yml"
            section = {
                "patroni": {"urls": cluster.urls, "scope": SCOPE, "interval": "500ms"},
                "conninfo": f"dbname=postgres user={EXPORTER_ROLE}",
                "healer": {"conninfo": f"dbname=postgres user={HEALER_ROLE}"},
            }
            config.write_text(yaml.safe_dump({"clusters": {SCOPE: section}}), "utf-8")
            exporter, healer = (Program(f"pg-slot-{program}", config, folder) for program in ("exporter", "healer"))
            try:
                exporter.start()
                healer.start()
                yield PatroniStack(cluster, exporter, healer, config)
            finally:
                exporter.stop()
                healer.stop()


def heal_on(patroni_stack: PatroniStack, standby: Member, slot: str) -> None:
    """Create a slot that hangs until the healer receives the alert; the healer acts on the current leader."""
    leader = patroni_stack.patroni.leader()
    # The checkpoint of a promotion, which logs a record at its end, has then ended as well.
    leader.sql("CHECKPOINT")
    with leader.no_records_by_itself():
        leader.wait_until_replayed(standby, "pg_catalog.pg_log_standby_snapshot()")
        with standby.create_slot(slot) as creator:
            about = {"node": standby.name, "slot_name": slot, "reason": "running_xacts"}
            reason = "pgslot_creation_wait_reason"
            wait_for(lambda: patroni_stack.exporter.value(reason, **about), f"{slot} hangs")
            assert not creator.done
            assert send_alert(patroni_stack, "firing", standby.name, slot) == "started=1\n"
            wait_for(lambda: creator.done, f"{slot} is made", log=patroni_stack.healer.process.log)
            assert creator.error is None
    wait_for(lambda: patroni_stack.healer.get_json("/episodes")[0]["outcome"], "the episode ends")
    [episode, *_] = patroni_stack.healer.get_json("/episodes")
    assert episode["outcome"] == "healed", episode
    send_alert(patroni_stack, "resolved", standby.name, slot)
    standby.drop_slot(slot)


def send_alert(patroni_stack: PatroniStack, status: str, node: str, slot: str) -> str:
    """Send the healer an alert as Alertmanager does."""
    body = {"version": "4", "alerts": [{"status": status, "fingerprint": slot, "labels": labels_of(node, slot)}]}
    answer = requests.post(f"{patroni_stack.healer.url}/alerts", json=body, timeout=10)
    answer.raise_for_status()
    return answer.text


def labels_of(node: str, slot: str) -> dict[str, str]:
    return {"heal": "log_standby_snapshot", "cluster": SCOPE, "node": node, "slot_name": slot}


def session_start(member: Member) -> str:
    """Return when the exporter's only session on this member began."""
    query = "SELECT backend_start::text FROM pg_catalog.pg_stat_activity WHERE usename = %s"
    [(began,)] = member.sql(query, [EXPORTER_ROLE])
    return str(began)


def test_patroni_members_are_nodes_and_pass_the_doctor(patroni_stack: PatroniStack) -> None:
    patroni_stack.until_nodes(*NAMES)
    leader = patroni_stack.patroni.leader().name
    assert patroni_stack.roles() == {name: "primary" if name == leader else "standby" for name in NAMES}
    assert patroni_stack.exporter.value("pgslot_unlisted_standbys", node=leader) == 0
    for program in (patroni_stack.exporter, patroni_stack.healer):
        wait_for(partial(program.value, "pgslot_patroni_up", cluster=SCOPE), "Patroni is asked")
        assert program.value("pgslot_patroni_last_answer_timestamp_seconds", cluster=SCOPE)
    flags = [f"--config.file={patroni_stack.config}", f"--healer.url={patroni_stack.healer.url}"]
    done = run_healer("doctor", "--json", *flags)
    findings = {(finding["check"], finding["subject"]): finding for finding in json.loads(done.stdout)}
    assert findings["members", SCOPE]["found"] == f"Patroni lists 3: {', '.join(NAMES)}"
    for check in ("members", "primary", "standbys", "same cluster", "capability"):
        assert findings[check, SCOPE]["status"] == "ok", findings[check, SCOPE]
    identifier = (patroni_stack.patroni.leader().ask("patroni"))["database_system_identifier"]
    assert findings["same cluster", SCOPE]["found"] == f"system identifier {identifier} everywhere"


def test_commands_use_the_patroni_members(patroni_stack: PatroniStack, tmp_path: Path) -> None:
    patroni_stack.until_nodes(*NAMES)
    alert = {"status": "firing", "fingerprint": "f", "labels": labels_of("orders-2", "nosuch")}
    (tmp_path / "body.json").write_text(json.dumps({"version": "4", "alerts": [alert]}), "utf-8")
    for arguments, message in ((["heal", SCOPE], "nothing to heal"), (["replay", f"{tmp_path}/body.json"], "nothing")):
        done = run_healer(*arguments, f"--config.file={patroni_stack.config}")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert message in done.stdout


def test_members_of_another_cluster_are_rejected(patroni_stack: PatroniStack, tmp_path: Path) -> None:
    """Members whose scope differs from the configured one are not taken for this cluster."""
    config = yaml.safe_load(patroni_stack.config.read_text("utf-8"))
    config["clusters"][SCOPE]["patroni"]["scope"] = "billing"
    (tmp_path / "pgslot.yml").write_text(yaml.safe_dump(config), "utf-8")
    done = run_healer("heal", SCOPE, f"--config.file={tmp_path / 'pgslot.yml'}")
    assert done.returncode == 2
    assert "clusters.orders.patroni: expected an answer of one of its URLs, found: " in done.stderr
    assert "expected the scope 'billing', found 'orders'" in done.stderr


def test_rehearsal_says_what_patronis_switchover_does(patroni_stack: PatroniStack) -> None:
    """A permanent slot that Patroni copies, slots that it ignores, a failover slot, a slot that it drops."""
    cluster = patroni_stack.patroni
    patroni_stack.until_nodes(*NAMES)
    leader, target = cluster.leader(), cluster.replicas()[0]
    permanent = {"type": "logical", "database": "postgres", "plugin": "test_decoding"}
    settings = {"slots": {"kept": permanent}, "ignore_slots": [{"name": "plain"}, {"name": "own"}]}
    requests.patch(f"{leader.api}/config", json=settings, timeout=10).raise_for_status()
    make = "SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'test_decoding')"
    try:
        for slot in ("plain", "stray"):
            leader.sql(make, [slot])
        leader.sql(make.replace("'test_decoding'", "'test_decoding', false, false, true"), ["protected"])
        wait_for(lambda: "kept" in logical_slots(target), "Patroni has copied the permanent slot", timeout=60)
        cluster.wait_until_streaming(*NAMES)
        for slot in ("own", "unknown"):
            make_slot_on(target, leader, slot)
        command = ("rehearse", SCOPE, "--to", target.name, "--json", f"--config.file={patroni_stack.config}")
        done = in_process.run("pg-slot-exporter", *command)
        assert (done.returncode, done.stderr) == (1, "")
        [said] = json.loads(done.stdout)
        outcomes = {
            slot["slot_name"]: (slot["outcome"], slot["reason"]) for slot in said["slots"] + said["target_slots"]
        }
        assert outcomes["kept"] == ("goes_on", "patroni")
        assert outcomes["plain"] == ("ends", "no_failover")
        assert outcomes["protected"] == ("ends", "sync_off")
        assert outcomes["own"] == ("goes_on", "own")
        assert outcomes["unknown"] == ("goes_on", "patroni_drops")
        assert (said["problems"], said["unknown"]) == ([], [])
        cluster.switch_over(target)
        cluster.wait_until_streaming(*NAMES)
        assert logical_slots(target) == {"kept", "own", "unknown"}
        wait_for(lambda: "stray" not in logical_slots(leader), "Patroni drops what it does not know, once it restarts")
        # It leaves slots with failover alone, also those that the old leader keeps.
        assert "protected" in logical_slots(leader)
        target.sql("SELECT count(*) FROM pg_catalog.pg_logical_slot_get_changes('kept', NULL, NULL)")
    finally:
        usual = {"slots": None, "ignore_slots": [{"type": "logical"}]}
        requests.patch(f"{cluster.leader().api}/config", json=usual, timeout=10).raise_for_status()
        for member in (leader, target):
            for slot in ("plain", "stray", "kept", "own", "unknown", "protected"):
                member.drop_slot(slot)
    patroni_stack.until_nodes(*NAMES)


def logical_slots(member: Member) -> set[str]:
    query = "SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE slot_type = 'logical'"
    try:
        return {name for (name,) in member.sql(query)}
    except psycopg.OperationalError:
        # Patroni restarts a replica to give it a copy.
        return set()


def make_slot_on(standby: Member, leader: Member, slot: str) -> None:
    """Create a logical slot of the standby's own, by forced records."""
    with standby.create_slot(slot) as creator:
        record = "SELECT pg_catalog.pg_log_standby_snapshot()"
        wait_for(lambda: creator.wait(0.2) or not leader.sql(record), f"{slot} is made")
        assert creator.error is None, creator.error


def test_slots_are_healed_after_every_change_of_members(patroni_stack: PatroniStack) -> None:
    cluster = patroni_stack.patroni
    patroni_stack.until_nodes(*NAMES)
    heal_on(patroni_stack, cluster.replicas()[0], "at_first")

    before = cluster.leader()
    cluster.switch_over(cluster.replicas()[0])
    cluster.wait_until_streaming(*NAMES)
    wait_for(lambda: patroni_stack.roles().get(before.name) == "standby", "its new role is told")
    patroni_stack.until_nodes(*NAMES)
    heal_on(patroni_stack, before, "after_a_switchover")

    killed = cluster.leader()
    killed.kill()
    left = [name for name in NAMES if name != killed.name]
    wait_for(lambda: patroni_stack.nodes() == left, "the killed one is no node any more", timeout=60)
    leader = cluster.leader()
    cluster.wait_until_streaming(*left)
    patroni_stack.until_nodes(*left)
    [standby] = cluster.replicas()
    heal_on(patroni_stack, standby, "after_a_failover")

    # The new member is in none of the URLs, and the sessions on the other members stay open.
    sessions = {name: session_start(cluster.members[name]) for name in left}
    cluster.add("orders-4")
    patroni_stack.until_nodes(*left, "orders-4")
    heal_on(patroni_stack, cluster.members["orders-4"], "on_a_new_replica")
    assert {name: session_start(cluster.members[name]) for name in left} == sessions
    assert patroni_stack.exporter.value("pgslot_unlisted_standbys", node=leader.name) == 0


def silent(program: Program) -> bool:
    return program.value("pgslot_patroni_up", cluster=SCOPE) == 0


def test_last_members_are_kept_while_patroni_is_silent(patroni_stack: PatroniStack) -> None:
    """Every Patroni process is paused; the PostgreSQL servers keep running."""
    nodes = patroni_stack.nodes()
    members = [member for member in patroni_stack.patroni.members.values() if member.process.running]
    for member in members:
        member.process.pause()
    try:
        for program in (patroni_stack.exporter, patroni_stack.healer):
            wait_for(partial(silent, program), f"{program.name} has noticed", timeout=60)
        assert patroni_stack.nodes() == nodes
        assert {sample.value for sample in patroni_stack.exporter.samples("pgslot_up")} == {1}
        assert patroni_stack.exporter.value("pgslot_patroni_members", cluster=SCOPE) == len(nodes)
        with psycopg.connect(members[0].conninfo()) as session:
            assert session.execute("SELECT 1").fetchall() == [(1,)]
    finally:
        for member in members:
            member.process.resume()
    wait_for(lambda: patroni_stack.exporter.value("pgslot_patroni_up", cluster=SCOPE), "it is asked again", timeout=60)

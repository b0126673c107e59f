"""`pg-slot-healer doctor` on the real stack: no problems at first, then one real fault after another."""

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.doctor import (
    HEALED_ALERTS,
    all_scraped,
    changed_alertmanager_config,
    changed_config_copy,
    changed_yaml,
    heartbeat_arrived,
    hides_webhook_urls,
    problems,
    run,
    tell_people,
)
from tests.support.hanging_creations import hanging_creation
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.programs import run_healer
from tests.support.servers.stack import (
    CLUSTER,
    EXPORTER_ROLE,
    HEALER_ROLE,
    POWERLESS_ROLE,
    PRIMARY_NODE,
    STANDBY_NODE,
    Stack,
)

GRANT = f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO {HEALER_ROLE}"
REVOKE = f"REVOKE EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() FROM {HEALER_ROLE}"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack() as stack:
        stack.start_databases()
        stack.start_exporter()
        stack.start_healer()
        stack.start_monitoring()
        tell_people(stack.folder, stack.alertmanager.url)
        wait_for(lambda: all_scraped(stack), "Prometheus has scraped both")
        wait_for(lambda: stack.prometheus.query("node:pgslot_wal_limit_bytes:max"), "rules are evaluated")
        found = "/api/v1/alertmanagers"
        wait_for(lambda: stack.prometheus.get(found)["data"]["activeAlertmanagers"], "it has found its Alertmanager")
        yield stack


def test_healthy_stack_has_no_problems(stack: Stack) -> None:
    # The first heartbeat may be lost, as Prometheus does not know Alertmanager yet; it is sent again after a minute.
    wait_for(lambda: heartbeat_arrived(stack), "the heartbeat has come", timeout=90)
    assert problems(stack, code=0, test=False) == {}
    done = run(stack)
    assert (done.returncode, done.stderr) == (0, "")
    *lines, counts = done.stdout.splitlines()
    assert "0 warn, 0 FAIL" in counts
    assert {line.split()[0] for line in lines} <= {"ok", "skipped"}
    assert "\x1b" not in done.stdout
    checks = ("node", "probes", "wal_level", "standby", "primary", "same cluster", "capability", "webhooks", "rules")
    for check in (*checks, "nodes", "alerting", "route", "leads to", "silence"):
        assert any(line.startswith(f"ok       {check} ") for line in lines), check
    assert f"demo/{STANDBY_NODE}" in done.stdout


def test_doctor_leaves_nothing_behind(stack: Stack) -> None:
    """No WAL, no lock, no session, no episode."""
    episodes = stack.healer.get_json("/episodes")
    with stack.primary.no_records_by_itself():
        lsn = stack.primary.sql("SELECT pg_catalog.pg_current_wal_insert_lsn()")
        assert problems(stack, code=0) == {}
        assert stack.primary.sql("SELECT pg_catalog.pg_current_wal_insert_lsn()") == lsn
    assert stack.primary.sql("SELECT 1 FROM pg_catalog.pg_locks WHERE locktype = 'advisory'") == []
    sessions = "SELECT application_name FROM pg_catalog.pg_stat_activity WHERE application_name = 'pg_slot_healer'"
    wait_for(lambda: stack.primary.sql(sessions) == [], "its sessions have ended")
    assert stack.healer.get_json("/episodes") == episodes


def test_missing_execute_is_fixed_by_the_advice(stack: Stack) -> None:
    stack.primary.sql(REVOKE)
    try:
        [(key, finding)] = problems(stack).items()
        assert (key, finding["found"]) == (("capability", CLUSTER), "missing_privilege")
        stack.primary.sql(finding["remedy"].partition(": ")[2])
        assert problems(stack, code=0) == {}
    finally:
        stack.primary.sql(GRANT)


def test_node_that_is_down_is_named(stack: Stack) -> None:
    stack.standby.stop()
    try:
        findings = problems(stack)
    finally:
        stack.standby.start()
    subject = f"{CLUSTER}/{STANDBY_NODE}"
    assert {key: finding["status"] for key, finding in findings.items()} == {
        ("node", subject): "failed",
        ("probes", subject): "skipped",
        ("WAL directory", subject): "skipped",
        ("wal_level", subject): "skipped",
        ("switchover", subject): "skipped",
        ("same cluster", CLUSTER): "skipped",
    }
    assert "Connection refused" in findings["node", subject]["found"]


def test_refused_login_is_fixed_by_the_advice(stack: Stack) -> None:
    stack.primary.sql(f"ALTER ROLE {EXPORTER_ROLE} NOLOGIN")
    stack.primary.wait_until_replayed(stack.standby)
    try:
        findings = problems(stack)
        nodes = [finding for (check, _), finding in findings.items() if check == "node"]
        assert len(nodes) == 2
        for finding in nodes:
            assert finding["found"].startswith("login_failed: ")
            assert finding["remedy"] == f'On the primary: ALTER ROLE "{EXPORTER_ROLE}" LOGIN;'
        stack.primary.sql(nodes[0]["remedy"].partition(": ")[2])
        stack.primary.wait_until_replayed(stack.standby)
        assert problems(stack, code=0) == {}
    finally:
        stack.primary.sql(f"ALTER ROLE {EXPORTER_ROLE} LOGIN")


def test_node_that_hangs_is_given_up_after_five_seconds(stack: Stack) -> None:
    stack.standby.pause_all()
    try:
        findings = problems(stack)
    finally:
        stack.standby.resume_all()
    assert findings["node", f"{CLUSTER}/{STANDBY_NODE}"]["found"] == "timeout: no answer within 5 s"
    wait_for(lambda: all_scraped(stack), "Prometheus scrapes the exporter again")


def test_missing_grants_are_fixed_by_the_advice(stack: Stack, tmp_path: Path) -> None:
    def powerless(data: Any) -> None:
        data["clusters"][CLUSTER]["nodes"][PRIMARY_NODE]["conninfo"] = stack.primary.conninfo(POWERLESS_ROLE)

    findings = problems(stack, file=changed_config_copy(stack, tmp_path, powerless))
    subject = f"{CLUSTER}/{PRIMARY_NODE}"
    assert {key: finding["status"] for key, finding in findings.items()} == {
        ("probes", subject): "failed",
        ("WAL directory", subject): "warning",
    }
    denied = ("creations", "transactions", "standby", "senders")
    assert findings["probes", subject]["found"] == ", ".join(f"{name}: permission_denied" for name in denied)
    assert f"{POWERLESS_ROLE} may not list it in database postgres" in findings["WAL directory", subject]["found"]
    grants = [finding["remedy"].partition(": ")[2] for finding in findings.values()]
    for grant in grants:
        stack.primary.sql(grant)
    try:
        assert problems(stack, code=0, file=tmp_path / "pgslot.yml") == {}
    finally:
        for grant in grants:
            stack.primary.sql(grant.replace("GRANT", "REVOKE").replace(" TO ", " FROM "))


@pytest.fixture(scope="module")
def other_cluster() -> Iterator[Postgres]:
    """A server of another cluster, with too low a wal_level."""
    with Stack() as other:
        yield other.single(wal_level="replica")


def test_healer_connected_to_another_cluster_is_named(stack: Stack, other_cluster: Postgres, tmp_path: Path) -> None:
    def astray(data: Any) -> None:
        data["clusters"][CLUSTER]["healer"]["conninfo"] = other_cluster.conninfo()

    findings = problems(stack, file=changed_config_copy(stack, tmp_path, astray))
    assert {key: finding["status"] for key, finding in findings.items()} == {
        ("same cluster", CLUSTER): "failed",
        ("capability", CLUSTER): "warning",
    }
    assert "system identifiers differ" in findings["same cluster", CLUSTER]["found"]
    assert ", a superuser" in findings["capability", CLUSTER]["found"]


def test_nodes_of_two_clusters_under_one_name_are_named(stack: Stack, other_cluster: Postgres, tmp_path: Path) -> None:
    def mixed(data: Any) -> None:
        data["clusters"][CLUSTER]["nodes"][STANDBY_NODE]["conninfo"] = other_cluster.conninfo()

    findings = problems(stack, file=changed_config_copy(stack, tmp_path, mixed))
    assert {key: finding["status"] for key, finding in findings.items()} == {
        ("node", f"{CLUSTER}/{STANDBY_NODE}"): "warning",
        ("probes", f"{CLUSTER}/{STANDBY_NODE}"): "skipped",
        ("wal_level", f"{CLUSTER}/{STANDBY_NODE}"): "failed",
        ("primary", CLUSTER): "failed",
        ("standbys", CLUSTER): "warning",
        ("same cluster", CLUSTER): "failed",
    }


def test_unreadable_identifier_is_skipped(stack: Stack) -> None:
    stack.primary.sql("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_control_system() FROM PUBLIC")
    try:
        [(key, finding)] = problems(stack, code=0).items()
    finally:
        stack.primary.sql("GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO PUBLIC")
    assert (key, finding["status"]) == (("same cluster", CLUSTER), "skipped")
    assert finding["found"].startswith("could not compare system identifiers: ")


def test_standby_without_feedback_is_named(stack: Stack) -> None:
    stack.standby.sql("ALTER SYSTEM SET hot_standby_feedback = off")
    stack.standby.sql("SELECT pg_catalog.pg_reload_conf()")
    wait_for(lambda: stack.standby.sql("SHOW hot_standby_feedback") == [("off",)], "it is off")
    try:
        [(key, finding)] = problems(stack, code=0).items()
    finally:
        stack.standby.sql("ALTER SYSTEM RESET hot_standby_feedback")
        stack.standby.sql("SELECT pg_catalog.pg_reload_conf()")
    assert (key, finding["found"]) == (("standby", f"{CLUSTER}/{STANDBY_NODE}"), "hot_standby_feedback is off")


def test_disabled_healer_is_named_with_its_reason(stack: Stack, tmp_path: Path) -> None:
    def off(data: Any) -> None:
        data["clusters"][CLUSTER]["healer"] |= {"enabled": False, "disabled_reason": "CHG-7"}

    findings = problems(stack, file=changed_config_copy(stack, tmp_path, off), code=0)
    assert "CHG-7" in findings["capability", CLUSTER]["found"]


def test_wrong_or_unreadable_token_is_named(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("another")
    file = changed_config_copy(stack, tmp_path, lambda data: data["healer"].update(webhook_token_file="token"))
    [(key, finding)] = problems(stack, file=file).items()
    assert (key, finding["found"]) == (("webhooks", stack.healer.url), "refused with 401, although the token was sent")
    (tmp_path / "token").unlink()
    findings = problems(stack, file=file)
    assert findings["configuration", str(file)]["status"] == "failed"
    assert findings["webhooks", stack.healer.url]["status"] == "skipped"


def test_configuration_that_the_programs_do_not_have_is_named(stack: Stack, tmp_path: Path) -> None:
    file = changed_config_copy(
        stack, tmp_path, lambda data: data["clusters"].update(renamed=data["clusters"].pop(CLUSTER))
    )
    findings = problems(stack, file=file)
    assert findings["clusters", stack.healer.url]["found"] == "does not know renamed"
    missing = f"no series pgslot_up for renamed/{PRIMARY_NODE}, renamed/{STANDBY_NODE}"
    assert findings["nodes", stack.prometheus.url]["found"] == missing


def test_healer_that_is_down_is_named(stack: Stack) -> None:
    stack.healer.stop()
    try:
        wait_for(lambda: not all_scraped(stack), "Prometheus has noticed")
        findings = problems(stack)
    finally:
        stack.healer.start()
        wait_for(lambda: all_scraped(stack), "Prometheus scrapes it again")
    assert {key: finding["found"] for key, finding in findings.items() if finding["status"] == "failed"}.keys() == {
        ("healer", stack.healer.url),
        ("healer target", "pgslot-healer"),
    }
    assert findings["healer", stack.healer.url]["found"] == "Connection refused"
    assert "is down: " in findings["healer target", "pgslot-healer"]["found"]


def test_exporter_is_not_taken_for_the_healer(stack: Stack) -> None:
    findings = problems(stack, f"--healer.url={stack.exporter.url}")
    assert findings["healer", stack.exporter.url]["found"].endswith("found those of another program")


def test_exporter_that_is_down_is_named(stack: Stack) -> None:
    stack.exporter.stop()
    try:
        wait_for(lambda: not all_scraped(stack), "Prometheus has noticed")
        findings = problems(stack)
    finally:
        stack.exporter.start()
        wait_for(lambda: all_scraped(stack), "Prometheus scrapes it again")
    assert findings["exporter target", "pgslot-exporter"]["status"] == "failed"


def test_missing_and_changed_rules_are_named(stack: Stack) -> None:
    home = stack.folder / "prometheus"

    def loaded() -> int:
        stack.prometheus.process.send(signal.SIGHUP)
        return sum(len(group["rules"]) for group in stack.prometheus.get("/api/v1/rules")["data"]["groups"])

    every = loaded()

    def change(data: Any) -> None:
        rules = {rule.get("alert"): rule for group in data["groups"] for rule in group["rules"]}
        for group in data["groups"]:
            group["rules"] = [rule for rule in group["rules"] if rule.get("alert") != "PgSlotLost"]
        rules["PgSlotCreationStuck"]["expr"] = rules["PgSlotCreationStuck"]["expr"].replace("> 30", "> 120")
        # Written differently, and the same to Prometheus.
        rules["PgSlotWalHeadroomLow"]["expr"] = rules["PgSlotWalHeadroomLow"]["expr"].replace("< 0.25", "< 25e-2")

    with changed_yaml(home / "pgslot.rules.yml", change):
        wait_for(lambda: loaded() == every - 1, "the changed rules are loaded")
        findings = problems(stack)
    with changed_yaml(home / "prometheus.yml", lambda data: data.pop("rule_files")):
        wait_for(lambda: loaded() == 0, "no rules are loaded")
        none = problems(stack)
    wait_for(lambda: loaded() == every, "the rules are back")
    assert findings["rules", stack.prometheus.url]["found"] == "not loaded: PgSlotLost"
    assert findings["rules", "PgSlotCreationStuck"]["status"] == "warning"
    assert "> 120" in findings["rules", "PgSlotCreationStuck"]["found"]
    assert ("rules", "PgSlotWalHeadroomLow") not in findings
    assert none["rules", stack.prometheus.url]["found"] == "not loaded: all"


def test_prometheus_that_hangs_or_is_another_program_is_named(stack: Stack) -> None:
    stack.prometheus.process.pause()
    try:
        findings = problems(stack)
    finally:
        stack.prometheus.process.resume()
    assert findings["prometheus", stack.prometheus.url]["found"] == "no answer within 5 s"
    other = stack.alertmanager.url
    assert problems(stack, f"--prometheus.url={other}")["prometheus", other]["found"].startswith(
        "/api/v1/targets: expected"
    )


def test_missing_route_is_named(stack: Stack) -> None:
    with changed_alertmanager_config(stack, lambda data: data["route"].pop("routes")):
        findings = problems(stack)
    assert {key: finding["status"] for key, finding in findings.items()} == {
        ("route", name): "failed" for name in (*HEALED_ALERTS, "PgSlotWatchdog")
    }


def test_route_with_alertmanagers_defaults_is_named(stack: Stack) -> None:
    def defaults(data: Any) -> None:
        data["route"]["routes"][0] = {"matchers": ['heal="log_standby_snapshot"'], "receiver": "healer"}
        data["receivers"][0]["webhook_configs"][0] |= {"send_resolved": False, "max_alerts": 5}
        del data["receivers"][0]["webhook_configs"][0]["http_config"]

    with changed_alertmanager_config(stack, defaults):
        done = run(stack)
    if hides_webhook_urls():
        # Nothing proves that the receiver is the healer's, so that the doctor says nothing about it.
        assert done.returncode == 3
        assert "-> Set" not in done.stdout
        assert "unknown  leads to           receiver healer" in done.stdout
        return
    assert done.returncode == 1
    for text in (
        "warn     pace               route to healer",
        "group_by alertname, cluster: the next alert of a group waits up to 300 s",
        "repeat_interval 14400 s",
        "send_resolved: false",
        "max_alerts 5",
        "sends no token: the healer refuses every webhook",
    ):
        assert text in done.stdout


def test_webhook_that_leads_elsewhere_is_named(stack: Stack) -> None:
    def elsewhere(data: Any) -> None:
        data["receivers"][0]["webhook_configs"][0]["url"] = f"{stack.exporter.url}/alerts"

    with changed_alertmanager_config(stack, elsewhere):
        findings = problems(stack)
    if hides_webhook_urls():
        # A test alert did not come.
        assert {key: finding["status"] for key, finding in findings.items()} == {
            ("route", name): "failed" for name in (*HEALED_ALERTS, "PgSlotWatchdog")
        }
        return
    [(key, finding)] = findings.items()
    assert key == ("leads to", "receiver healer")
    assert finding["found"] == f"does not lead to {stack.healer.url}, but to {stack.exporter.url} (no healer)"


def test_healer_is_recognised_by_another_name(stack: Stack) -> None:
    def alias(data: Any) -> None:
        data["receivers"][0]["webhook_configs"][0]["url"] = f"http://localhost:{stack.healer.port}/alerts"

    with changed_alertmanager_config(stack, alias):
        assert problems(stack, code=0) == {}


def test_silence_is_named(stack: Stack) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    silence = {
        "matchers": [{"name": "node", "value": f"{STANDBY_NODE}|x", "isRegex": True, "isEqual": True}],
        "startsAt": datetime.now(UTC).isoformat(),
        "endsAt": ends.isoformat(),
        "createdBy": "ann",
        "comment": "rebuild",
    }
    url = f"{stack.alertmanager.url}/api/v2"
    made = requests.post(f"{url}/silences", json=silence, timeout=10).json()["silenceID"]
    try:
        [(key, finding)] = problems(stack, code=0).items()
    finally:
        requests.delete(f"{url}/silence/{made}", timeout=10)
    assert key == ("silence", made)
    assert finding["found"].startswith(f"{', '.join(HEALED_ALERTS)}: active until")
    assert finding["found"].endswith("by ann: rebuild")


def test_bad_input_exits_with_2(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text("clusters: {}")
    for flags in (("--prometheus.url=nonsense",), (f"--config.file={tmp_path / 'bad.yml'}",)):
        done = run(stack, *flags)
        assert (done.returncode, done.stdout) == (2, "")
        assert "expected" in done.stderr


def test_passwords_are_not_shown(stack: Stack, tmp_path: Path) -> None:
    """Whatever fails."""

    def secret(data: Any) -> None:
        for node in data["clusters"][CLUSTER]["nodes"].values():
            node["conninfo"] += " password=s3cr3t user=nobody_by_this_name"
        data["clusters"][CLUSTER]["healer"]["conninfo"] += " password=s3cr3t"
        data["healer"]["alertmanager_url"] = stack.alertmanager.url.replace("//", "//u:s3cr3t@")

    file = changed_config_copy(stack, tmp_path, secret)
    for flags in ((), ("--json",), ("--healer.url=http://u:s3cr3t@127.0.0.1:1",)):
        done = run(stack, *flags, file=file)
        assert done.returncode == 1
        assert "s3cr3t" not in done.stdout + done.stderr


def test_why_follows_an_alert_from_prometheus_to_the_proof(stack: Stack) -> None:
    """Real answers of Prometheus and Alertmanager are read as the canned ones of test_alert_path.py are."""
    urls = {name: getattr(stack, name).url for name in ("healer", "prometheus", "alertmanager")}
    flags = [f"--{name}.url={url}" for name, url in urls.items()]
    with hanging_creation(stack, "asked_why"):
        wait_for(lambda: "healed" in stack.healer.get("/why?slot=asked_why").text, "it is healed", timeout=60)
        fired = 'ALERTS{alertstate="firing",slot_name="asked_why"}'
        wait_for(lambda: stack.prometheus.query(fired), "Prometheus has the alert")
        done = run_healer("why", "asked_why", f"--cluster={CLUSTER}", *flags)
    stack.drop_slot("asked_why")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"asked_why in {CLUSTER}: the last wait is over" in done.stdout
    assert "healed, and proven so (healed): usable after our call" in done.stdout
    assert f"about the slot on {CLUSTER}/{STANDBY_NODE} has fired since" in done.stdout
    assert ", and reached this healer" in done.stdout
    assert "did not" not in done.stdout

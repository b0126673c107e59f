"""The rules, their promtool tests, the examples for Prometheus and Alertmanager, and the receivers of every alert."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.alert_rules import (
    ALERT_RULES,
    ALERTS,
    ALERTS_TO_HEALER,
    ALERTS_TO_HEALER_ALONE,
    RECORDING_RULES,
    RULE_TESTS,
    RULES,
    each_alert,
    run_tool,
)

ALERTMANAGER = ALERTS / "alertmanager.yml"

AGREED = ALERTS_TO_HEALER | {
    "PgSlotWalHeadroomLow",
    "PgSlotLossPredicted",
    "PgSlotLost",
    "PgSlotInactive",
    "PgSlotPinnedByTransaction",
    "PgSlotPreparedTransactionForgotten",
    "PgSlotHealUnavailable",
    "PgSlotHealNoEffect",
    "PgSlotHealOverdue",
    "PgSlotTargetDown",
    "PgSlotExporterDown",
    "PgSlotHealerDown",
    "PgSlotWatchdog",
    "PgSlotProbeFailing",
    "PgSlotConfigReloadFailed",
    "PgSlotCreationsFailing",
    "PgSlotVanished",
    "PgSlotsNearlyUsedUp",
    "PgSlotXminOld",
    "PgSlotIdleTimeoutNear",
    "PgSlotNotFailoverReady",
    "PgSlotDependsOnLastSlot",
    "PgSlotUnlistedStandby",
    "PgSlotPatroniSilent",
}
PAGES = {"PgSlotLossPredicted", "PgSlotLost", "PgSlotVanished", "PgSlotHealNoEffect"} | {
    "PgSlotTargetDown",
    "PgSlotExporterDown",
}


def test_alerts_are_the_agreed_ones() -> None:
    assert set(ALERT_RULES) == AGREED


@pytest.mark.tools
def test_promtool_accepts_the_rules() -> None:
    done = run_tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.tools
def test_rule_tests_pass_in_promtool() -> None:
    done = run_tool("promtool", "test", "rules", *RULE_TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == len(RULE_TESTS)


@pytest.mark.tools
def test_promtool_accepts_the_example_configuration_with_its_rules() -> None:
    done = run_tool("promtool", "check", "config", ALERTS / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERT_RULES) + len(RECORDING_RULES)} rules found" in done.stdout


def test_shipped_scrapes_honor_the_labels_of_the_programs() -> None:
    """In Kubernetes many targets have labels named `cluster` and `node`."""
    for scrape in yaml.safe_load((ALERTS / "prometheus.yml").read_text())["scrape_configs"]:
        assert scrape["honor_labels"] is True
    operator = ALERTS.parent / "deploy/kubernetes/operator"
    for monitor in yaml.safe_load_all((operator / "servicemonitor.yaml").read_text()):
        assert {endpoint["honorLabels"] for endpoint in monitor["spec"]["endpoints"]} == {True}
    for scrape in yaml.safe_load_all((operator / "scrapeconfig.yaml").read_text()):
        assert scrape["spec"]["honorLabels"] is True


@pytest.mark.tools
def test_amtool_accepts_the_example_configuration() -> None:
    done = run_tool("amtool", "check-config", ALERTMANAGER)
    assert done.returncode == 0, done.stdout + done.stderr


def test_amlint_reports_only_the_two_empty_receivers() -> None:
    done = run_tool(
        Path(sys.executable).with_name("amlint"),
        *("check", "--strict", "--format", "json", "--rules", str(RULES), str(ALERTMANAGER)),
    )
    findings = {(finding["code"], finding["where"]) for finding in json.loads(done.stdout)}
    assert findings == {("empty-receiver", f"receivers[{name}]") for name in ("nobody", "people")}, done.stderr


def receivers(name: str) -> str:
    """Return the receivers that the alert has to reach, in amtool's notation."""
    if name in ALERTS_TO_HEALER_ALONE:
        return "healer,nobody"
    if name == "PgSlotWatchdog":
        return "healer"
    return "healer,people" if name in ALERTS_TO_HEALER else "people"


@each_alert
@pytest.mark.tools
def test_alert_reaches_exactly_its_receivers(name: str) -> None:
    labels = {"alertname": name, "cluster": "orders", **ALERT_RULES[name]["labels"]}
    done = run_tool(
        *("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}"),
        f"--verify.receivers={receivers(name)}",
        *(f"{label}={value}" for label, value in labels.items()),
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.tools
def test_foreign_alert_reaches_only_people() -> None:
    done = run_tool("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", "alertname=DiskFull")
    assert done.stdout.strip() == "people"


def test_people_are_notified_two_minutes_after_the_healer() -> None:
    routes = yaml.safe_load(ALERTMANAGER.read_text())["route"]["routes"]
    waits = {route["receiver"]: route["group_wait"] for route in routes if any("heal=" in m for m in route["matchers"])}
    assert waits == {"healer": "0s", "people": "2m"}


def test_scrape_interval_of_creations_is_their_evaluation_interval() -> None:
    """People are notified of a slot after 30 s at the earliest, plus two minutes."""
    groups = {group["name"]: group for group in yaml.safe_load(RULES.read_text())["groups"]}
    [alone] = groups["pgslot-creations"]["rules"]
    scrapes = {
        job["job_name"]: job for job in yaml.safe_load((ALERTS / "prometheus.yml").read_text())["scrape_configs"]
    }
    fast = scrapes["pgslot-creations"]
    assert (alone["alert"], fast["params"]) == ("PgSlotCreationWaiting", {"collect[]": ["creations"]})
    assert groups["pgslot-creations"]["interval"] == fast["scrape_interval"] == fast["scrape_timeout"] == "2s"


def test_heal_label_is_on_exactly_the_healable_alerts() -> None:
    requested = {name: rule["labels"]["heal"] for name, rule in ALERT_RULES.items() if "heal" in rule["labels"]}
    termination = {"PgSlotEndangeredByTransaction": "end_transaction"}
    assert requested == dict.fromkeys(ALERTS_TO_HEALER, "log_standby_snapshot") | termination


def inhibited(target: dict[str, str], source: dict[str, str]) -> bool:
    """Return whether Alertmanager inhibits the target while the source fires."""

    def matches(matchers: list[str], labels: dict[str, str]) -> bool:
        for matcher in matchers:
            [(label, operator, value)] = re.findall(r'^(\w+)(=~|!=|=)"(.*)"$', matcher)
            actual = labels.get(label, "")
            equal = re.fullmatch(value, actual) is not None if operator == "=~" else actual == value
            if equal == (operator == "!="):
                return False
        return True

    return any(
        matches(rule["source_matchers"], source)
        and matches(rule["target_matchers"], target)
        and all(source.get(label, "") == target.get(label, "") for label in rule["equal"])
        for rule in yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"]
    )


def labels_of(name: str, **labels: str) -> dict[str, str]:
    """Return the labels that the rule gives an alert about a slot, updated with `labels`."""
    about = {"cluster": "orders", "node": "orders-1", "slot_name": "cdc", "database": "shop"}
    expr = ALERT_RULES[name]["expr"]
    grouped = re.search(r"by \(([\w, ]+)\)", expr)
    kept = {label: about[label] for label in grouped[1].split(", ") if label in about} if grouped else {}
    if expr.lstrip("( \n").startswith("slot:"):  # a recording rule by slot
        kept = about
    return {"alertname": name, **ALERT_RULES[name]["labels"], **kept, **labels}


@each_alert
def test_alert_never_inhibits_an_alert_for_the_healer(name: str) -> None:
    for target in [*ALERTS_TO_HEALER, "PgSlotWatchdog"]:
        assert not inhibited(labels_of(target), labels_of(name))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("PgSlotTargetDown", "PgSlotPreparedTransactionForgotten"),
        ("PgSlotTargetDown", "PgSlotLossPredicted"),
        ("PgSlotTargetDown", "PgSlotProbeFailing"),
        ("PgSlotLost", "PgSlotLossPredicted"),
        ("PgSlotLost", "PgSlotInactive"),
        ("PgSlotIdleTimeoutNear", "PgSlotInactive"),
        ("PgSlotNotPersisted", "PgSlotNotFailoverReady"),
        ("PgSlotLossPredicted", "PgSlotWalHeadroomLow"),
        ("PgSlotLossPredicted", "PgSlotInactive"),
        ("PgSlotLossPredicted", "PgSlotPinnedByTransaction"),
        ("PgSlotWalHeadroomLow", "PgSlotInactive"),
        ("PgSlotWalHeadroomLow", "PgSlotPinnedByTransaction"),
        ("PgSlotPreparedTransactionForgotten", "PgSlotPinnedByTransaction"),
    ],
)
def test_incident_notifies_people_once(source: str, target: str) -> None:
    assert inhibited(labels_of(target), labels_of(source))
    assert not inhibited(labels_of(source), labels_of(target))
    assert not inhibited(labels_of(target, cluster="shop"), labels_of(source))


def test_target_down_inhibits_heal_unavailable_only_if_the_server_is_unreachable() -> None:
    down = labels_of("PgSlotTargetDown")
    assert inhibited(labels_of("PgSlotHealUnavailable", reason="unreachable"), down)
    assert inhibited(labels_of("PgSlotHealUnavailable", reason="no_primary"), down)
    assert not inhibited(labels_of("PgSlotHealUnavailable", reason="missing_privilege"), down)
    assert not inhibited(labels_of("PgSlotTargetDown", node="orders-2"), down)


def test_loss_of_a_slot_does_not_inhibit_alerts_about_another_slot() -> None:
    for name in ("PgSlotLossPredicted", "PgSlotWalHeadroomLow", "PgSlotInactive"):
        assert not inhibited(labels_of(name, slot_name="etl"), labels_of("PgSlotLost"))
        assert not inhibited(labels_of(name, node="orders-2"), labels_of("PgSlotLost"))


@each_alert
def test_alert_states_summary_place_and_severity(name: str) -> None:
    rule = ALERT_RULES[name]
    assert name.startswith("PgSlot")
    assert rule["labels"]["severity"] == (
        "critical" if name in PAGES else "info" if "people" not in receivers(name) else "warning"
    )
    assert rule["labels"]["component"] == "pgslot"
    assert re.fullmatch(r"[A-Z][^{}]*\.", rule["annotations"]["summary"])  # a sentence that fits all alerts of a group
    where = "$labels.cluster" if "cluster" in rule["expr"] or "slot:" in rule["expr"] else "$labels.job"
    assert where in rule["annotations"]["description"] or name == "PgSlotWatchdog"
    assert "{{" not in str(rule["labels"])  # a changing label would start a new alert
    assert rule["annotations"]["runbook_url"] == f"http://localhost:9877/runbooks/{name}"


@each_alert
def test_labels_of_an_alert_are_stable(name: str) -> None:
    """Aggregation, also in recording rules, leaves no label of a session and none of the exporter that collected it."""
    expr = ALERT_RULES[name]["expr"]
    for record in re.findall(r"slot:\w+:\w+", expr):
        expr += RECORDING_RULES[record]["expr"]
    kept = {label for group in re.findall(r"\bby \(([\w, ]+)\)", expr) for label in group.split(", ")}
    assert kept <= {"cluster", "node", "slot_name", "database", "reason", "probe", "job", "remedy"}


@pytest.mark.parametrize("name", ["PgSlotCreationStuck", "PgSlotCreationBlocked"])
def test_creation_alert_has_one_greater_than_sign(name: str) -> None:
    """The test stack replaces the number behind `>` to lower the threshold."""
    assert re.findall(r">.*", ALERT_RULES[name]["expr"]) in (["> 30"], ["> 60"])

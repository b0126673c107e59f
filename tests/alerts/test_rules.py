"""The rules, their promtool tests, the examples for Prometheus and Alertmanager, and where each alert is sent."""

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
    """In Kubernetes `cluster` and `node` are labels that many a target has."""
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
    found = {(finding["code"], finding["where"]) for finding in json.loads(done.stdout)}
    assert found == {("empty-receiver", f"receivers[{name}]") for name in ("nobody", "people")}, done.stderr


def receivers(name: str) -> str:
    """Return whom the alert has to reach, as amtool writes it."""
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
    """People hear of a slot at 30 s at the soonest, and after two minutes more."""
    groups = {group["name"]: group for group in yaml.safe_load(RULES.read_text())["groups"]}
    [alone] = groups["pgslot-creations"]["rules"]
    scrapes = {
        job["job_name"]: job for job in yaml.safe_load((ALERTS / "prometheus.yml").read_text())["scrape_configs"]
    }
    fast = scrapes["pgslot-creations"]
    assert (alone["alert"], fast["params"]) == ("PgSlotCreationWaiting", {"collect[]": ["creations"]})
    assert groups["pgslot-creations"]["interval"] == fast["scrape_interval"] == fast["scrape_timeout"] == "2s"


def test_heal_label_is_on_exactly_the_healable_alerts() -> None:
    asked = {name: rule["labels"]["heal"] for name, rule in ALERT_RULES.items() if "heal" in rule["labels"]}
    ended = {"PgSlotEndangeredByTransaction": "end_transaction"}
    assert asked == dict.fromkeys(ALERTS_TO_HEALER, "log_standby_snapshot") | ended


def inhibited(target: dict[str, str], source: dict[str, str]) -> bool:
    """Return whether Alertmanager holds the target back while the source fires."""

    def matches(matchers: list[str], labels: dict[str, str]) -> bool:
        for matcher in matchers:
            [(label, operator, value)] = re.findall(r'^(\w+)(=~|!=|=)"(.*)"$', matcher)
            found = labels.get(label, "")
            held = re.fullmatch(value, found) is not None if operator == "=~" else found == value
            if held == (operator == "!="):
                return False
        return True

    return any(
        matches(rule["source_matchers"], source)
        and matches(rule["target_matchers"], target)
        and all(source.get(label, "") == target.get(label, "") for label in rule["equal"])
        for rule in yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"]
    )


def fired(name: str, **labels: str) -> dict[str, str]:
    """Return the labels of an alert with those labels, of one slot, that the rule gives it."""
    about = {"cluster": "orders", "node": "orders-1", "slot_name": "cdc", "database": "shop"}
    expr = ALERT_RULES[name]["expr"]
    grouped = re.search(r"by \(([\w, ]+)\)", expr)
    kept = {label: about[label] for label in grouped[1].split(", ") if label in about} if grouped else {}
    if expr.lstrip("( \n").startswith("slot:"):  # a recording rule of slots
        kept = about
    return {"alertname": name, **ALERT_RULES[name]["labels"], **kept, **labels}


@each_alert
def test_alert_never_inhibits_an_alert_for_the_healer(name: str) -> None:
    for target in [*ALERTS_TO_HEALER, "PgSlotWatchdog"]:
        assert not inhibited(fired(target), fired(name))


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
    assert inhibited(fired(target), fired(source))
    assert not inhibited(fired(source), fired(target))
    assert not inhibited(fired(target, cluster="shop"), fired(source))


def test_target_down_inhibits_heal_unavailable_only_if_the_server_is_unreachable() -> None:
    down = fired("PgSlotTargetDown")
    assert inhibited(fired("PgSlotHealUnavailable", reason="unreachable"), down)
    assert inhibited(fired("PgSlotHealUnavailable", reason="no_primary"), down)
    assert not inhibited(fired("PgSlotHealUnavailable", reason="missing_privilege"), down)
    assert not inhibited(fired("PgSlotTargetDown", node="orders-2"), down)


def test_loss_of_a_slot_does_not_inhibit_alerts_about_another_slot() -> None:
    for name in ("PgSlotLossPredicted", "PgSlotWalHeadroomLow", "PgSlotInactive"):
        assert not inhibited(fired(name, slot_name="etl"), fired("PgSlotLost"))
        assert not inhibited(fired(name, node="orders-2"), fired("PgSlotLost"))


@each_alert
def test_alert_states_summary_place_and_severity(name: str) -> None:
    rule = ALERT_RULES[name]
    assert name.startswith("PgSlot")
    assert rule["labels"]["severity"] == (
        "critical" if name in PAGES else "info" if "people" not in receivers(name) else "warning"
    )
    assert rule["labels"]["component"] == "pgslot"
    assert re.fullmatch(r"[A-Z][^{}]*\.", rule["annotations"]["summary"])  # a sentence, the same for all of a group
    where = "$labels.cluster" if "cluster" in rule["expr"] or "slot:" in rule["expr"] else "$labels.job"
    assert where in rule["annotations"]["description"] or name == "PgSlotWatchdog"
    assert "{{" not in str(rule["labels"])  # a label that changes makes another alert of it
    assert rule["annotations"]["runbook_url"] == f"http://localhost:9877/runbooks/{name}"


@each_alert
def test_labels_of_an_alert_are_stable(name: str) -> None:
    """What is left after aggregation, also of recording rules: nothing of a session, and not which exporter saw it."""
    expr = ALERT_RULES[name]["expr"]
    for record in re.findall(r"slot:\w+:\w+", expr):
        expr += RECORDING_RULES[record]["expr"]
    kept = {label for group in re.findall(r"\bby \(([\w, ]+)\)", expr) for label in group.split(", ")}
    assert kept <= {"cluster", "node", "slot_name", "database", "reason", "probe", "job", "remedy"}


@pytest.mark.parametrize("name", ["PgSlotCreationStuck", "PgSlotCreationBlocked"])
def test_creation_alert_has_one_greater_than_sign(name: str) -> None:
    """The test stack lowers it by replacing the number."""
    assert re.findall(r">.*", ALERT_RULES[name]["expr"]) in (["> 30"], ["> 60"])

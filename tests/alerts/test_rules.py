"""The rules, their promtool tests, the examples for Prometheus and Alertmanager, and the receivers of every alert."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
from tests.support.documents import read_yaml, read_yaml_documents

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
    "PgSlotLoginFailed",
    "PgSlotTargetFlapping",
    "PgSlotNotConfirmed",
    "PgSlotManyEndangered",
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
    "PgSlotCatalogUnprotected",
    "PgSlotLeftover",
    "PgSlotPatroniSilent",
    "PgSlotVolumeFullSoon",
    "PgSlotVolumeFullPredicted",
    "PgSlotGrowsWithoutLimit",
    "PgSlotArchiverFailing",
    "PgSlotNoWalLimit",
}
NOTICES = {"PgSlotNoWalLimit"}
"""For people who plan: `severity: info`, seldom, and to the same receiver."""
PAGES = {"PgSlotLossPredicted", "PgSlotLost", "PgSlotManyEndangered", "PgSlotVanished", "PgSlotHealNoEffect"} | {
    "PgSlotTargetDown",
    "PgSlotExporterDown",
    "PgSlotVolumeFullSoon",
}


def test_alerts_are_the_agreed_ones() -> None:
    assert set(ALERT_RULES) == AGREED


@pytest.mark.tools
def test_promtool_accepts_the_rules() -> None:
    done = run_tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.tools
@pytest.mark.parametrize("file", RULE_TESTS, ids=lambda file: file.name)
def test_rule_tests_pass_in_promtool(file: Path) -> None:
    done = run_tool("promtool", "test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == 1


@pytest.mark.tools
def test_promtool_accepts_the_example_configuration_with_its_rules() -> None:
    done = run_tool("promtool", "check", "config", ALERTS / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERT_RULES) + len(RECORDING_RULES)} rules found" in done.stdout


def test_shipped_scrapes_honor_the_labels_of_the_programs() -> None:
    """In Kubernetes many targets have labels named `cluster` and `node`."""
    for scrape in read_yaml(ALERTS / "prometheus.yml")["scrape_configs"]:
        assert scrape["honor_labels"] is True
    operator = ALERTS.parent / "deploy/kubernetes/operator"
    for monitor in read_yaml_documents(operator / "servicemonitor.yaml"):
        assert {endpoint["honorLabels"] for endpoint in monitor["spec"]["endpoints"]} == {True}
    for scrape in read_yaml_documents(operator / "scrapeconfig.yaml"):
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
    routes = read_yaml(ALERTMANAGER)["route"]["routes"]
    waits = {route["receiver"]: route["group_wait"] for route in routes if any("heal=" in m for m in route["matchers"])}
    assert waits == {"healer": "0s", "people": "2m"}


def test_notices_come_once_for_all_servers_and_seldom() -> None:
    [route] = [route for route in read_yaml(ALERTMANAGER)["route"]["routes"] if 'severity="info"' in route["matchers"]]
    assert route["group_by"] == ["alertname"]
    assert (route["group_interval"], route["repeat_interval"]) == ("24h", "96h")


def test_scrape_interval_of_creations_is_their_evaluation_interval() -> None:
    """People are notified of a slot after 30 s at the earliest, plus two minutes."""
    groups = {group["name"]: group for group in read_yaml(RULES)["groups"]}
    [alone] = groups["pgslot-creations"]["rules"]
    scrapes = {job["job_name"]: job for job in read_yaml(ALERTS / "prometheus.yml")["scrape_configs"]}
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
        for rule in read_yaml(ALERTMANAGER)["inhibit_rules"]
    )


def labels_of(name: str, **labels: str) -> dict[str, str]:
    """Return the labels that the rule gives an alert about a slot, updated with `labels`."""
    about = {"cluster": "orders", "node": "orders-1", "slot_name": "cdc", "database": "shop"}
    expr = ALERT_RULES[name]["expr"]
    grouped = re.search(r"by \(([\w, ]+)\)", expr)
    kept = {label: about[label] for label in grouped[1].split(", ") if label in about} if grouped else {}
    if expr.lstrip("( \n").startswith("slot:"):  # a recording rule by slot
        kept = about
    if expr.lstrip("( \n").startswith("node:"):
        kept = {label: about[label] for label in ("cluster", "node")}
    return {"alertname": name, **ALERT_RULES[name]["labels"], **kept, **labels}


@each_alert
def test_alert_never_inhibits_an_alert_for_the_healer(name: str) -> None:
    for target in [*ALERTS_TO_HEALER, "PgSlotWatchdog"]:
        assert not inhibited(labels_of(target), labels_of(name))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("PgSlotTargetDown", "PgSlotPreparedTransactionForgotten"),
        ("PgSlotTargetDown", "PgSlotWalHeadroomLow"),
        ("PgSlotTargetDown", "PgSlotProbeFailing"),
        ("PgSlotManyEndangered", "PgSlotLost"),
        ("PgSlotManyEndangered", "PgSlotLossPredicted"),
        ("PgSlotManyEndangered", "PgSlotInactive"),
        ("PgSlotLost", "PgSlotInactive"),
        ("PgSlotLost", "PgSlotNotConfirmed"),
        ("PgSlotIdleTimeoutNear", "PgSlotInactive"),
        ("PgSlotNotPersisted", "PgSlotNotFailoverReady"),
        ("PgSlotNotFailoverReady", "PgSlotCatalogUnprotected"),
        ("PgSlotLossPredicted", "PgSlotLost"),
        ("PgSlotLossPredicted", "PgSlotWalHeadroomLow"),
        ("PgSlotLossPredicted", "PgSlotInactive"),
        ("PgSlotLossPredicted", "PgSlotPinnedByTransaction"),
        ("PgSlotWalHeadroomLow", "PgSlotInactive"),
        ("PgSlotWalHeadroomLow", "PgSlotPinnedByTransaction"),
        ("PgSlotVolumeFullSoon", "PgSlotLossPredicted"),
        ("PgSlotVolumeFullSoon", "PgSlotVolumeFullPredicted"),
        ("PgSlotVolumeFullSoon", "PgSlotArchiverFailing"),
        ("PgSlotVolumeFullSoon", "PgSlotGrowsWithoutLimit"),
        ("PgSlotVolumeFullPredicted", "PgSlotGrowsWithoutLimit"),
        ("PgSlotVolumeFullPredicted", "PgSlotInactive"),
        ("PgSlotInactive", "PgSlotGrowsWithoutLimit"),
        ("PgSlotNotConfirmed", "PgSlotGrowsWithoutLimit"),
    ],
)
def test_incident_notifies_people_once(source: str, target: str) -> None:
    assert inhibited(labels_of(target), labels_of(source))
    assert not inhibited(labels_of(source), labels_of(target))
    assert not inhibited(labels_of(target, cluster="shop"), labels_of(source))


def test_critical_alert_is_inhibited_only_by_an_alert_that_contains_it() -> None:
    pairs = {(source, target) for source in ALERT_RULES for target in PAGES if source != target}
    assert {(source, target) for source, target in pairs if inhibited(labels_of(target), labels_of(source))} == {
        ("PgSlotManyEndangered", "PgSlotLost"),
        ("PgSlotManyEndangered", "PgSlotLossPredicted"),
        ("PgSlotLossPredicted", "PgSlotLost"),
        # It fires only where the volume is full before a limit costs a slot.
        ("PgSlotVolumeFullSoon", "PgSlotLossPredicted"),
    }


def test_alert_inhibits_only_what_is_about_the_same() -> None:
    """The healer's reach, and a transaction that pins a slot, may have other reasons than these."""
    assert not inhibited(labels_of("PgSlotHealUnavailable", reason="unreachable"), labels_of("PgSlotTargetDown"))
    assert not inhibited(labels_of("PgSlotPinnedByTransaction"), labels_of("PgSlotPreparedTransactionForgotten"))
    assert not inhibited(labels_of("PgSlotWalHeadroomLow", node="orders-2"), labels_of("PgSlotTargetDown"))
    for target in ALERT_RULES:
        assert not inhibited(labels_of(target), labels_of("PgSlotTargetFlapping"))


def test_loss_of_a_slot_does_not_inhibit_alerts_about_another_slot() -> None:
    for name in ("PgSlotLost", "PgSlotWalHeadroomLow", "PgSlotInactive"):
        for source in ("PgSlotLost", "PgSlotLossPredicted"):
            assert not inhibited(labels_of(name, slot_name="etl"), labels_of(source))
            assert not inhibited(labels_of(name, node="orders-2"), labels_of(source))


@each_alert
def test_alert_states_summary_place_and_severity(name: str) -> None:
    rule = ALERT_RULES[name]
    assert name.startswith("PgSlot")
    assert rule["labels"]["severity"] == (
        "critical" if name in PAGES else "info" if "people" not in receivers(name) or name in NOTICES else "warning"
    )
    assert rule["labels"]["component"] == "pgslot"
    summary = rule["annotations"]["summary"]
    assert re.fullmatch(r"(?:[A-Z]|\{\{)[^\n]*\.", summary)
    assert "query" not in summary
    # A phone shows nothing else.
    assert ("$labels.slot_name" in summary) == ("slot_name" in labels_of(name))
    where = "$labels.cluster" if re.search("cluster|slot:|node:", rule["expr"]) else "$labels.job"
    assert where in rule["annotations"]["description"] or name == "PgSlotWatchdog"
    assert "{{" not in str(rule["labels"])  # a changing label would start a new alert
    assert rule["annotations"]["runbook_url"] == f"http://localhost:9877/runbooks/{name}"


def expected_descriptions() -> Iterator[tuple[str, str]]:
    """Return (alert, rendered description) from promtool's tests, which fail if a rule renders another text."""
    for file in RULE_TESTS:
        for test in read_yaml(file)["tests"]:
            for case in test.get("alert_rule_test", ()):
                for alert in case["exp_alerts"]:
                    yield case["alertname"], alert["exp_annotations"]["description"]


DESCRIPTIONS = sorted({(name, " ".join(text.split())) for name, text in expected_descriptions()})


@each_alert
def test_promtool_renders_the_description_of_every_alert(name: str) -> None:
    assert [text for alert, text in DESCRIPTIONS if alert == name]


MAX_CHARACTERS = 300
LONGER = {
    "One of these": "up to ten transactions are candidates, and the alert lists them",
    "A newer attempt runs": "the session that may be abandoned is named after everything else",
    "Its consumer is away": "a record alone is not enough, and the alert adds what else has to happen",
}
"""Sentences with which a description may be longer than a phone shows, and why."""
MAX_CHARACTERS_LONGER = 350


@pytest.mark.parametrize(("name", "text"), DESCRIPTIONS)
def test_description_fits_on_a_phone(name: str, text: str) -> None:
    """People read what is wrong, what it costs, who is to blame and what to do first without scrolling."""
    limit = MAX_CHARACTERS_LONGER if any(sentence in text for sentence in LONGER) else MAX_CHARACTERS
    assert len(text) < limit, f"{name}: {len(text)} characters"


@each_alert
def test_description_says_what_to_do_first(name: str) -> None:
    """The healer alone receives the alerts for it: nobody has to do anything."""
    if name in ALERTS_TO_HEALER_ALONE or name == "PgSlotWatchdog":
        return
    for alert, text in DESCRIPTIONS:
        if alert == name:
            assert re.search(r"\bFirst [a-z]|run SELECT", text), text


@each_alert
def test_labels_of_an_alert_are_stable(name: str) -> None:
    """Aggregation, also in recording rules, leaves no label of a session and none of the exporter that collected it."""
    expr = ALERT_RULES[name]["expr"]
    # A series on the right of "and" or "unless" gives the result no label.
    giving = re.sub(r"\b(?:and|unless) on \([\w, ]+\) slot:\w+:\w+", "", expr)
    for record in re.findall(r"slot:\w+:\w+", giving):
        expr += RECORDING_RULES[record]["expr"]
    kept = {label for group in re.findall(r"\bby \(([\w, ]+)\)", expr) for label in group.split(", ")}
    assert kept <= {"cluster", "node", "slot_name", "database", "reason", "probe", "job", "remedy"}


@pytest.mark.parametrize("name", ["PgSlotCreationStuck", "PgSlotCreationBlocked"])
def test_creation_alert_has_one_greater_than_sign(name: str) -> None:
    """The test stack replaces the number behind `>` to lower the threshold."""
    assert re.findall(r">.*", ALERT_RULES[name]["expr"]) in (["> 30"], ["> 60"])

"""Grafana's alert rules equal Prometheus' rules, are valid for Grafana and have the labels that start a heal."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from grafana_foundation_sdk.models import alerting as models
from grafana_foundation_sdk.models import expr, prometheus

from dashboards.alerting import ALERTING, RECORDING
from tests.support.alert_rules import ALERT_RULES, ALERTS_TO_HEALER, RECORDING_RULES, run_tool
from tests.support.documents import read_yaml
from tests.support.fakes.grafana import grafana_body
from tests.support.paths import ROOT
from tests.support.servers.monitoring import Prometheus
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import CLUSTER, STANDBY_NODE, Stack

Json = dict[str, Any]
PROVISIONED: Json = read_yaml(ROOT / ALERTING)
RULES: dict[str, Json] = {rule["title"]: rule for group in PROVISIONED["groups"] for rule in group["rules"]}

each_rule = pytest.mark.parametrize("name", RULES)

# From Grafana's reader (pkg/services/provisioning/alerting/rules_types.go), which ignores unknown keys.
GROUP_KEYS = {"orgId", "name", "folder", "interval", "rules"}
RULE_KEYS = {"uid", "title", "condition", "data", "dashboardUid", "panelId", "noDataState", "execErrState", "for"} | {
    *("keepFiringFor", "missing_series_evals_to_resolve", "annotations", "labels", "isPaused", "notification_settings"),
}
STEP_KEYS = {"refId", "queryType", "relativeTimeRange", "datasourceUid", "model"}
MODELS: dict[str, Any] = {"math": expr.TypeMath, "threshold": expr.TypeThreshold, "prometheus": prometheus.Dataquery}
DURATION = re.compile(r"(\d+)([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> int:
    match = DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"no duration: {text}")
    return int(match[1]) * SECONDS[match[2]]


def require(condition: object, message: str) -> None:
    if not condition:
        raise ValueError(message)


def check_document(document: Json) -> None:
    """Check the file; raises ValueError for anything that Grafana rejects or would drop."""
    require(set(document) == {"apiVersion", "groups"} and document["apiVersion"] == 1, "not of version 1")
    uids = [rule["uid"] for group in document["groups"] for rule in group["rules"]]
    require(len(set(uids)) == len(uids), "a uid twice")
    for group in document["groups"]:
        require(set(group) <= GROUP_KEYS, f"unknown keys of a group: {set(group) - GROUP_KEYS}")
        require(group["name"] and group["folder"], "a group without a name or folder")
        require(seconds(group["interval"]) % 10 == 0, "an interval that is no multiple of the scheduler's 10 s")
        for rule in group["rules"]:
            check_rule(rule)


def check_rule(rule: Json) -> None:
    require(set(rule) <= RULE_KEYS, f"unknown keys: {set(rule) - RULE_KEYS}")
    require(re.fullmatch(r"[\w-]{1,40}", rule["uid"]), "no uid")
    require(rule["title"] and seconds(rule["for"]) >= 0, "no title")
    seconds(rule.get("keepFiringFor", "0s"))
    require(rule["noDataState"] in ("OK", "NoData", "Alerting", "KeepLast"), "no such state")
    require(rule["execErrState"] in ("OK", "Error", "Alerting", "KeepLast"), "no such state")
    texts = [*rule["annotations"].values(), *rule["labels"].values()]
    require(not any("$" in text for text in texts), "a variable of Grafana's environment")
    require(rule["condition"] in {step["refId"] for step in rule["data"]}, "no such step is the condition")
    earlier: list[str] = []
    for step in rule["data"]:
        check_step(step, earlier)
        earlier.append(step["refId"])


def check_step(step: Json, earlier: list[str]) -> None:
    """Check a step; `earlier` are the refIds of the steps before it, which are the only ones that it may use."""
    require(set(step) <= STEP_KEYS, f"unknown keys: {set(step) - STEP_KEYS}")
    model = step["model"]
    require(step["refId"] not in earlier and model["refId"] == step["refId"], "refId")
    require(step["datasourceUid"] == model["datasource"]["uid"], "two data sources")
    require(step["relativeTimeRange"]["from"] > step["relativeTimeRange"]["to"] >= 0, "no time range")
    kind = model.get("type", model["datasource"]["type"])
    require((step["datasourceUid"] == "__expr__") is ("type" in model), "an expression is one of Grafana's")
    # The models drop unknown keys silently, so the result is compared with the input; `type` chose the model.
    parsed = plain(MODELS[kind].from_json(model))
    lost = [key for key in model if key != "type" and parsed.get(key) != model[key]]
    require(not lost, f"not all is known: {lost}")
    used = [model["expression"]] if kind == "threshold" else re.findall(r"\$(\w+)", model.get("expression", ""))
    require(set(used) <= set(earlier), f"steps that are not there: {used}")


def plain(value: Any) -> Any:
    if hasattr(value, "to_json"):
        return plain(value.to_json())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def test_provisioned_rules_are_valid_for_grafana() -> None:
    check_document(PROVISIONED)


def document_with(change: Callable[[Json], object]) -> Json:
    document: Json = read_yaml(ROOT / ALERTING)
    change(document["groups"][0]["rules"][0])
    return document


@pytest.mark.parametrize(
    "change",
    [
        lambda rule: rule.update(alert="x"),
        lambda rule: rule.update({"for": "soon"}),
        lambda rule: rule.update(uid="x" * 41),
        lambda rule: rule.update(condition="nobody"),
        lambda rule: rule.update(noDataState="Ok"),
        lambda rule: rule["annotations"].update(description="{{ $labels.node }}"),
        lambda rule: rule["data"][0]["model"].update(expression="up"),
        lambda rule: rule["data"][0]["model"].update(refId="other"),
        lambda rule: rule["data"][1]["model"].update(expression="is_number($nobody)"),
        lambda rule: rule["data"].reverse(),
        lambda rule: rule["data"][2]["model"]["conditions"][0].update(evaluater={}),
        lambda rule: rule["data"][2].update(datasourceUid="prometheus"),
    ],
)
def test_invalid_rule_is_rejected(change: Callable[[Json], object]) -> None:
    """Checks the check above."""
    with pytest.raises(ValueError, match=r"."):
        check_document(document_with(change))


def run_generator(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_tool(sys.executable, "-m", "dashboards.alerting", *arguments, cwd=ROOT)


def test_grafana_rules_are_up_to_date_with_the_alert_rules() -> None:
    done = run_generator("--check")
    assert done.returncode == 0, done.stderr


def test_outdated_rules_are_reported(tmp_path: Path) -> None:
    for file in (ALERTING, RECORDING):
        (tmp_path / file.parent).mkdir(parents=True)
    assert run_generator(tmp_path).returncode == 0
    generated = (tmp_path / ALERTING).read_text("utf-8")
    (tmp_path / ALERTING).write_text(f"{generated}# changed by hand\n", "utf-8")
    done = run_generator("--check", tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"{ALERTING.name} is out of step with pgslot.rules.yml: run make dashboards\n"


@each_rule
def test_grafana_rule_equals_the_prometheus_rule(name: str) -> None:
    grafana_rule, prometheus_rule = RULES[name], ALERT_RULES[name]
    assert grafana_rule["data"][0]["model"]["expr"] == prometheus_rule["expr"].strip()
    assert grafana_rule["labels"] == prometheus_rule["labels"]
    assert {key: grafana_rule.get(key, "0s") for key in ("for", "keepFiringFor")} == {
        "for": prometheus_rule.get("for", "0s"),
        "keepFiringFor": prometheus_rule.get("keep_firing_for", "0s"),
    }
    # As in Prometheus, no series means no alert, and an alert resolves when its series ends.
    assert (grafana_rule["noDataState"], grafana_rule["missing_series_evals_to_resolve"]) == ("OK", 1)
    assert grafana_rule["annotations"]["runbook_url"] == prometheus_rule["annotations"]["runbook_url"]
    summary = prometheus_rule["annotations"]["summary"].replace("$labels", ".Labels")
    assert grafana_rule["annotations"]["summary"] == summary.replace("$value", ".Values.query.Value")


@pytest.mark.tools
def test_grafana_has_every_alert_and_prometheus_every_recording_rule() -> None:
    assert set(RULES) == set(ALERT_RULES)
    assert {name for name, rule in RULES.items() if "heal" in rule["labels"]} == ALERTS_TO_HEALER
    recorded = read_yaml(ROOT / RECORDING)["groups"]
    assert {rule["record"]: rule for group in recorded for rule in group["rules"]} == RECORDING_RULES
    done = run_tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", ROOT / RECORDING)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.tools
def test_texts_are_valid_templates_without_queries(tmp_path: Path) -> None:
    """Prometheus has the same template language, with the value of the rule as `.Value`."""
    texts = {name: rule["annotations"]["description"] for name, rule in RULES.items()}
    assert not [name for name, text in texts.items() if re.search(r"\bquery\s*(\}\}|-\}\})", text)]
    rules = [
        {"alert": name, "expr": "vector(1)", "annotations": {"text": text.replace(".Values.query.Value", ".Value")}}
        for name, text in texts.items()
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "texts", "rules": rules}]}), "utf-8")
    done = run_tool("promtool", "check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.tools
def test_promtool_rejects_an_invalid_template(tmp_path: Path) -> None:
    """Checks the check above."""
    file = tmp_path / "rules.yml"
    for text in ("{{ if .Labels.node }}", "{{ humanise .Value }}"):
        rule = {"alert": "X", "expr": "vector(1)", "annotations": {"text": text}}
        file.write_text(yaml.safe_dump({"groups": [{"name": "texts", "rules": [rule]}]}), "utf-8")
        assert run_tool("promtool", "check", "rules", file).returncode != 0


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Runs without Alertmanager, so Prometheus' own alerts do not reach the healer."""
    with Stack() as stack:
        stack.start_databases()
        stack.start_exporter()
        stack.start_healer()
        stack.prometheus = Prometheus(stack.folder, stack.addresses, {})
        stack.prometheus.start()
        yield stack
        stack.prometheus.stop()


@pytest.mark.e2e
def test_alert_sent_by_grafana_starts_a_heal(stack: Stack) -> None:
    """The query runs on a real Prometheus; the test builds the labels as Grafana does, as there is no Grafana here."""
    rule = RULES["PgSlotCreationWaiting"]
    query = rule["data"][0]["model"]
    assert query["instant"] is True
    with stack.quiet(), stack.standby.create_slot("by_grafana") as creator:
        [series] = wait_for(lambda: stack.prometheus.query(query["expr"]), "the rule has an answer", 60)
        labels = series["metric"] | rule["labels"] | {"alertname": rule["title"], "grafana_folder": "pg-slot-healer"}
        assert (labels["cluster"], labels["node"], labels["slot_name"]) == (CLUSTER, STANDBY_NODE, "by_grafana")
        alert = {"status": "firing", "labels": labels, "annotations": rule["annotations"], "fingerprint": "f00d"}
        headers = {"Authorization": f"Bearer {stack.token_file.read_text('utf-8').strip()}"}
        answer = requests.post(f"{stack.healer.url}/alerts", json=grafana_body(alert), headers=headers, timeout=10)
        assert (answer.status_code, answer.text) == (200, "started=1\n")
        assert creator.wait(30)
        wait_for(lambda: stack.healer.get_json("/episodes")[0]["outcome"], "the episode has ended")
    assert stack.healer.get_json("/episodes")[0]["outcome"] == "healed"
    stack.drop_slot("by_grafana")


def test_sdk_model_reads_the_rules() -> None:
    """The SDK's model belongs to another Grafana API with the same field names."""
    for rule in RULES.values():
        parsed = models.Rule.from_json({key: value for key, value in rule.items() if key != "data"})
        assert (parsed.title, parsed.condition, parsed.for_val) == (rule["title"], rule["condition"], rule["for"])
        assert (parsed.no_data_state, parsed.exec_err_state) == (rule["noDataState"], rule["execErrState"])

"""Prometheus: scrapes both programs, has loaded the shipped rules, and sends alerts to an Alertmanager."""

from collections.abc import Sequence
from typing import Any

import yaml

from healer.doctor.checks.scrape_interval import judge_scrape_interval
from healer.doctor.checks.shipped_rules import EXPORTER_JOB, HEALER_JOB, HEARTBEAT_LABEL, Rule, rules
from healer.doctor.http import Client, describe
from healer.doctor.result import CheckStatus, Finding
from healer.remedies.registry import REMEDIES
from healer.webhook.payload import HEAL_LABEL
from pgslot.config.model import Config
from pgslot.httpclient import HttpError

MAX_NAMED = 5
"""Targets or alerts that a finding names."""
_NOT_YET = "not scraped yet: ask again in a minute"
_LOAD = "Load the output of `pg-slot-exporter rules` in rule_files, and reload Prometheus."


async def check_prometheus(client: Client, config: Config) -> list[Finding]:
    """Check one Prometheus."""
    shown = client.shown
    try:
        targets = (await _get(client, "targets", state="active"))["activeTargets"]
        series = (await _get(client, "query", query="pgslot_up"))["result"]
        findings = [
            Finding("prometheus", shown, CheckStatus.OK, f"answers, {len(targets)} targets"),
            _judge_target("exporter", EXPORTER_JOB, targets),
            _judge_target("healer", HEALER_JOB, targets),
            _judge_nodes(shown, config, series, scraped=_scraped(EXPORTER_JOB, targets)),
        ]
        groups = (await _get(client, "rules"))["groups"]
        findings += await _check_rules(client, groups)
        findings.append(judge_scrape_interval(shown, targets, groups))
        alertmanagers = (await _get(client, "alertmanagers"))["activeAlertmanagers"]
        findings.append(_judge_alertmanagers(shown, len(alertmanagers)))
        findings.append(_judge_alerts(shown, (await _get(client, "alerts"))["alerts"]))
    except HttpError as error:
        advice = "Is --prometheus.url its address as seen from here?"
        return [Finding("prometheus", shown, CheckStatus.FAILED, describe(error), advice)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        found = f"answers otherwise than Prometheus' API promises: {type(error).__name__} {error}"
        return [Finding("prometheus", shown, CheckStatus.FAILED, found, "Is --prometheus.url that of a Prometheus?")]
    return findings


async def fetch_external_labels(client: Client) -> dict[str, str]:
    """Return the labels that this Prometheus adds to all its alerts; none when it does not say."""
    try:
        config = yaml.safe_load((await _get(client, "status/config"))["yaml"])
        return {str(name): str(value) for name, value in (config["global"].get("external_labels") or {}).items()}
    except (HttpError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return {}


async def _get(client: Client, endpoint: str, **parameters: str) -> Any:
    """Return the data of an answer of Prometheus' API v1. Raises HttpError, KeyError or TypeError."""
    return (await client.get_json(f"/api/v1/{endpoint}", parameters))["data"]


def _judge_target(program: str, job: str, targets: Sequence[dict[str, Any]]) -> Finding:
    ours = [target for target in targets if target["labels"].get("job") == job]
    check = f"{program} target"
    if not ours:
        advice = f"Scrape the {program} in a job of this name, as alerts/prometheus.yml does: the alerts rely on it."
        return Finding(check, job, CheckStatus.FAILED, "Prometheus has no such target", advice)
    down = [target for target in ours if target["health"] == "down"]
    if down:
        found = "; ".join(f"{target['scrapeUrl']} is down: {target['lastError']}" for target in down[:MAX_NAMED])
        advice = f"Start the {program}, or put address, TLS or firewall right, as seen from Prometheus."
        return Finding(check, job, CheckStatus.FAILED, found, advice)
    if not _scraped(job, targets):
        return Finding(check, job, CheckStatus.SKIPPED, _NOT_YET)
    return Finding(check, job, CheckStatus.OK, ", ".join(f"{target['scrapeUrl']} is up" for target in ours[:MAX_NAMED]))


def _scraped(job: str, targets: Sequence[dict[str, Any]]) -> bool:
    """Return whether Prometheus has scraped all targets of the job: not for a short while after it discovers one."""
    return all(target["health"] != "unknown" for target in targets if target["labels"].get("job") == job)


def _judge_nodes(shown: str, config: Config, up: Sequence[dict[str, Any]], *, scraped: bool) -> Finding:
    """Report whether Prometheus has series of this configuration's nodes; `up` are those of pgslot_up."""
    present = {(series["metric"].get("cluster"), series["metric"].get("node")) for series in up}
    wanted = [(cluster.name, node.name) for cluster in config.clusters for node in cluster.nodes]
    missing = [f"{cluster}/{node}" for cluster, node in wanted if (cluster, node) not in present]
    if missing and not scraped:
        return Finding("nodes", shown, CheckStatus.SKIPPED, f"the exporter is {_NOT_YET}")
    if missing:
        advice = "The exporter runs with another configuration (reload it), is not scraped, or labels are rewritten."
        return Finding("nodes", shown, CheckStatus.FAILED, f"no series pgslot_up for {', '.join(missing)}", advice)
    return Finding("nodes", shown, CheckStatus.OK, f"pgslot_up is there for all {len(wanted)} nodes")


async def _check_rules(client: Client, groups: Sequence[dict[str, Any]]) -> list[Finding]:
    findings = []
    loaded: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        for rule in group["rules"]:
            loaded.setdefault(rule["name"], []).append(rule)
    missing = [rule.name for rule in rules() if rule.name not in loaded]
    if missing:
        named = "all" if len(missing) == len(rules()) else ", ".join(missing)
        findings.append(Finding("rules", client.shown, CheckStatus.FAILED, f"not loaded: {named}", _LOAD))
    for rule in rules():
        if rule.name in loaded:
            findings += await _check_rule(client, rule, loaded[rule.name])
    if not findings:
        findings.append(Finding("rules", client.shown, CheckStatus.OK, f"all {len(rules())} are loaded, as shipped"))
    return findings


async def _check_rule(client: Client, rule: Rule, loaded: Sequence[dict[str, Any]]) -> list[Finding]:
    """Return what is wrong with a rule, if anything. Prometheus may have several of its name; all must be right."""
    for copy in loaded:
        if copy.get("health") == "err":
            found = f"cannot be evaluated: {copy.get('lastError')}"
            return [Finding("rules", rule.name, CheckStatus.FAILED, found, _LOAD)]
    for label in (HEAL_LABEL, HEARTBEAT_LABEL):
        wanted = dict(rule.labels).get(label)
        values = {copy.get("labels", {}).get(label) for copy in loaded}
        if wanted is not None and values != {wanted}:
            text = f'expected the label {label}="{wanted}", found {", ".join(map(repr, values))}'
            found = f"{text}: its alerts do not reach the healer"
            return [Finding("rules", rule.name, CheckStatus.FAILED, found, _LOAD)]
    for copy in loaded:
        if not await _is_same(client, rule.expression, copy["query"]):
            break
    else:
        return []
    found = f"another expression than shipped: {loaded[0]['query']}"
    advice = f"Fine if it was changed on purpose. {_LOAD}"
    return [Finding("rules", rule.name, CheckStatus.WARNING, found, advice)]


async def _is_same(client: Client, shipped: str, loaded: str) -> bool:
    """Compare two expressions as this Prometheus formats them, or but for white space if it cannot."""
    if "".join(shipped.split()) == "".join(loaded.split()):
        return True
    try:
        formatted = [await _get(client, "format_query", query=text) for text in (shipped, loaded)]
    except HttpError:
        return False
    return bool(formatted[0] == formatted[1])


def _judge_alertmanagers(shown: str, count: int) -> Finding:
    if count:
        return Finding("alerting", shown, CheckStatus.OK, f"sends alerts to {count} Alertmanager(s)")
    advice = "Name Alertmanager under alerting.alertmanagers, as alerts/prometheus.yml does."
    return Finding("alerting", shown, CheckStatus.FAILED, "sends its alerts to no Alertmanager", advice)


def _judge_alerts(shown: str, alerts: Sequence[dict[str, Any]]) -> Finding:
    firing = [alert["labels"] for alert in alerts if alert["state"] == "firing"]
    named = [
        "/".join(filter(None, (labels.get(name) for name in ("cluster", "node", "slot_name"))))
        + f" {labels.get('alertname', '')}"
        for labels in firing
        if labels.get(HEAL_LABEL) in REMEDIES
    ]
    more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    found = f"{', '.join(named[:MAX_NAMED])}{more}" if named else "none"
    return Finding("firing for healer", shown, CheckStatus.OK, found)

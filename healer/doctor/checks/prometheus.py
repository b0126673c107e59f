"""Prometheus: scrapes both programs, has the rules, and tells an Alertmanager."""

from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from healer.doctor.checks import scrape_interval
from healer.doctor.checks.shipped_rules import Rule, rules
from healer.doctor.http import Client, NoAnswerError
from healer.doctor.result import CheckStatus, Finding
from healer.remedies.registry import REMEDIES
from healer.webhook.body import HEAL_LABEL
from pgslot.config.model import Config

EXPORTER_JOB = "pgslot-exporter"
HEALER_JOB = "pgslot-healer"
"""job_name in the shipped prometheus.yml; PgSlotExporterDown and PgSlotHealerDown rely on them."""

MOST_NAMED = 5
_NOT_YET = "not scraped yet: ask again in a minute"
_LOAD = "Load the output of `pg-slot-exporter rules` in rule_files, and reload Prometheus."


def check_prometheus(client: Client, config: Config) -> list[Finding]:
    """Examine one Prometheus."""
    shown = client.shown
    try:
        targets = client.get_json("/api/v1/targets", state="active")["data"]["activeTargets"]
        findings = [
            Finding("prometheus", shown, CheckStatus.OK, f"answers, {len(targets)} targets"),
            _judge_target("exporter", EXPORTER_JOB, targets),
            _judge_target("healer", HEALER_JOB, targets),
            _judge_nodes(shown, config, _query(client, "pgslot_up"), scraped=_scraped(EXPORTER_JOB, targets)),
        ]
        groups = client.get_json("/api/v1/rules")["data"]["groups"]
        findings += _judge_rules(client, groups)
        findings.append(scrape_interval.judge(shown, targets, groups))
        alertmanagers = client.get_json("/api/v1/alertmanagers")["data"]["activeAlertmanagers"]
        findings.append(_judge_alertmanagers(shown, len(alertmanagers)))
        findings.append(_judge_alerts(shown, client.get_json("/api/v1/alerts")["data"]["alerts"]))
    except NoAnswerError as error:
        remedy = "Is --prometheus.url its address as seen from here?"
        return [Finding("prometheus", shown, CheckStatus.FAILED, str(error), remedy)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        found = f"answers otherwise than Prometheus' API promises: {type(error).__name__} {error}"
        return [Finding("prometheus", shown, CheckStatus.FAILED, found, "Is --prometheus.url that of a Prometheus?")]
    return findings


def external_labels(client: Client) -> dict[str, str]:
    """Return the labels that this Prometheus adds to all its alerts; none when it does not say."""
    try:
        config = yaml.safe_load(client.get_json("/api/v1/status/config")["data"]["yaml"])
        return {str(name): str(value) for name, value in (config["global"].get("external_labels") or {}).items()}
    except (NoAnswerError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return {}


def _query(client: Client, expression: str) -> list[dict[str, Any]]:
    return list(client.get_json("/api/v1/query", query=expression)["data"]["result"])


def _judge_target(program: str, job: str, targets: Sequence[dict[str, Any]]) -> Finding:
    ours = [target for target in targets if target["labels"].get("job") == job]
    check = f"{program} target"
    if not ours:
        remedy = f"Scrape the {program} in a job of this name, as alerts/prometheus.yml does: the alerts rely on it."
        return Finding(check, job, CheckStatus.FAILED, "Prometheus has no such target", remedy)
    down = [target for target in ours if target["health"] == "down"]
    if down:
        found = "; ".join(f"{target['scrapeUrl']} is down: {target['lastError']}" for target in down[:MOST_NAMED])
        remedy = f"Start the {program}, or put address, TLS or firewall right, as seen from Prometheus."
        return Finding(check, job, CheckStatus.FAILED, found, remedy)
    if not _scraped(job, targets):
        return Finding(check, job, CheckStatus.SKIPPED, _NOT_YET)
    return Finding(
        check, job, CheckStatus.OK, ", ".join(f"{target['scrapeUrl']} is up" for target in ours[:MOST_NAMED])
    )


def _scraped(job: str, targets: Sequence[dict[str, Any]]) -> bool:
    """Return False for a short while after Prometheus has heard of a target."""
    return all(target["health"] != "unknown" for target in targets if target["labels"].get("job") == job)


def _judge_nodes(shown: str, config: Config, up: Sequence[dict[str, Any]], *, scraped: bool) -> Finding:
    """Do the nodes of this configuration arrive in Prometheus?"""
    known = {(series["metric"].get("cluster"), series["metric"].get("node")) for series in up}
    wanted = [(cluster.name, node.name) for cluster in config.clusters for node in cluster.nodes]
    missing = [f"{cluster}/{node}" for cluster, node in wanted if (cluster, node) not in known]
    if missing and not scraped:
        return Finding("nodes", shown, CheckStatus.SKIPPED, f"the exporter is {_NOT_YET}")
    if missing:
        remedy = "The exporter runs with another configuration (reload it), is not scraped, or labels are rewritten."
        return Finding("nodes", shown, CheckStatus.FAILED, f"no series pgslot_up for {', '.join(missing)}", remedy)
    return Finding("nodes", shown, CheckStatus.OK, f"pgslot_up is there for all {len(wanted)} nodes")


def _judge_rules(client: Client, groups: Sequence[dict[str, Any]]) -> Iterator[Finding]:
    loaded: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        for rule in group["rules"]:
            loaded.setdefault(rule["name"], []).append(rule)
    missing = [rule.name for rule in rules() if rule.name not in loaded]
    if missing:
        named = "all" if len(missing) == len(rules()) else ", ".join(missing)
        yield Finding("rules", client.shown, CheckStatus.FAILED, f"not loaded: {named}", _LOAD)
    there = [rule for rule in rules() if rule.name in loaded]
    judged = [finding for rule in there if (finding := _judge_rule(client, rule, loaded[rule.name])) is not None]
    yield from judged
    if not missing and not judged:
        yield Finding("rules", client.shown, CheckStatus.OK, f"all {len(there)} are loaded, as shipped")


def _judge_rule(client: Client, rule: Rule, loaded: Sequence[dict[str, Any]]) -> Finding | None:
    """Return what is wrong with a rule; None: nothing. Of several with one name each has to be right by itself."""
    for each in loaded:
        if each.get("health") == "err":
            return Finding(
                "rules", rule.name, CheckStatus.FAILED, f"cannot be evaluated: {each.get('lastError')}", _LOAD
            )
    for heart in (HEAL_LABEL, "heartbeat"):
        wanted = dict(rule.labels).get(heart)
        values = {each.get("labels", {}).get(heart) for each in loaded}
        if wanted is not None and values != {wanted}:
            text = f'expected the label {heart}="{wanted}", found {", ".join(map(repr, values))}'
            return Finding("rules", rule.name, CheckStatus.FAILED, f"{text}: its alerts do not reach the healer", _LOAD)
    if all(_same(client, rule.expression, each["query"]) for each in loaded):
        return None
    found = f"another expression than shipped: {loaded[0]['query']}"
    remedy = f"Fine if it was changed on purpose. {_LOAD}"
    return Finding("rules", rule.name, CheckStatus.WARNING, found, remedy)


def _same(client: Client, ours: str, theirs: str) -> bool:
    """Compare two expressions as this Prometheus itself writes them; without white space where it does not say."""
    if "".join(ours.split()) == "".join(theirs.split()):
        return True
    try:
        formatted = [client.get_json("/api/v1/format_query", query=text)["data"] for text in (ours, theirs)]
    except NoAnswerError:
        return False
    return bool(formatted[0] == formatted[1])


def _judge_alertmanagers(shown: str, count: int) -> Finding:
    if count:
        return Finding("alerting", shown, CheckStatus.OK, f"sends alerts to {count} Alertmanager(s)")
    remedy = "Name Alertmanager under alerting.alertmanagers, as alerts/prometheus.yml does."
    return Finding("alerting", shown, CheckStatus.FAILED, "sends its alerts to no Alertmanager", remedy)


def _judge_alerts(shown: str, alerts: Sequence[dict[str, Any]]) -> Finding:
    firing = [alert["labels"] for alert in alerts if alert["state"] == "firing"]
    named = [
        "/".join(filter(None, (labels.get(name) for name in ("cluster", "node", "slot_name"))))
        + f" {labels.get('alertname', '')}"
        for labels in firing
        if labels.get(HEAL_LABEL) in REMEDIES
    ]
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    found = f"{', '.join(named[:MOST_NAMED])}{more}" if named else "none"
    return Finding("firing for healer", shown, CheckStatus.OK, found)

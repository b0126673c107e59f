"""Prometheus: scrapes both programs, has loaded the shipped rules, and sends alerts to an Alertmanager."""

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import yaml

from healer.doctor.checks.loaded_rules import check_rules
from healer.doctor.checks.scrape_interval import judge_scrape_interval
from healer.doctor.checks.shipped_rules import EXPORTER_JOB, HEALER_JOB
from healer.doctor.checks.wal_volume import FREE_BYTES, judge_volume_series, named_volumes
from healer.doctor.http import Client, describe
from healer.doctor.result import CheckStatus, Finding
from healer.remedies.registry import REMEDIES
from healer.webhook.payload import HEAL_LABEL
from pgslot.config.model import Config
from pgslot.httpclient import HttpError

MAX_NAMED = 5
"""Targets or alerts that a finding names."""
_NOT_YET = "not scraped yet: run doctor again in a minute"
STARTUP_SECONDS = 30.0
"""After its start: by then Prometheus has discovered its targets and Alertmanagers, and scraped and evaluated once."""


async def check_prometheus(client: Client, config: Config) -> list[Finding]:
    """Check one Prometheus."""
    shown = client.shown
    try:
        started = await _started(client)
        targets = (await _get(client, "targets", state="active"))["activeTargets"]
        series = (await _get(client, "query", query="pgslot_up"))["result"]
        findings = [
            Finding("prometheus", shown, CheckStatus.OK, f"answers, {len(targets)} targets"),
            _judge_target("exporter", EXPORTER_JOB, targets),
            _judge_target("healer", HEALER_JOB, targets),
            _judge_nodes(shown, config, series, scraped=_scraped(EXPORTER_JOB, targets)),
        ]
        groups = (await _get(client, "rules"))["groups"]
        findings += await check_rules(client, groups)
        findings.append(judge_scrape_interval(shown, targets, groups))
        if volumes := named_volumes(config):
            free = (await _get(client, "query", query=FREE_BYTES))["result"]
            findings.append(judge_volume_series(shown, volumes, free))
        alertmanagers = (await _get(client, "alertmanagers"))["activeAlertmanagers"]
        findings.append(_judge_alertmanagers(shown, len(alertmanagers)))
        findings.append(_judge_alerts(shown, (await _get(client, "alerts"))["alerts"]))
    except HttpError as error:
        advice = "Check that --prometheus.url is its address as seen from here."
        return [Finding("prometheus", shown, CheckStatus.FAILED, describe(error), advice)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        found = f"its answer does not match Prometheus' API: {type(error).__name__} {error}"
        advice = "Check that --prometheus.url belongs to a Prometheus."
        return [Finding("prometheus", shown, CheckStatus.FAILED, found, advice)]
    return [_not_yet(finding, started) for finding in findings] if started is not None else findings


async def _started(client: Client) -> str | None:
    """Return when and how long ago Prometheus started, in words; None: not just now, or it does not say."""
    try:
        answer = await client.request("GET", "/api/v1/status/runtimeinfo")
        started = datetime.fromisoformat(answer.json()["data"]["startTime"])
        # By its own clock, which may not be that of this machine.
        date = answer.headers.get("Date")
        now = parsedate_to_datetime(date) if date is not None else datetime.now(UTC)
    except (HttpError, KeyError, TypeError, ValueError):
        return None
    age = max(0.0, (now - started).total_seconds())
    return f"{age:.0f} s ago ({started.isoformat(timespec='seconds')})" if age < STARTUP_SECONDS else None


def _not_yet(finding: Finding, started: str) -> Finding:
    """Return the finding, or if it failed, that Prometheus has just started and may not be that far."""
    if finding.status is not CheckStatus.FAILED:
        return finding
    advice = "Run doctor again in a minute. If this persists: " + finding.advice[:1].lower() + finding.advice[1:]
    found = f"not yet: Prometheus started {started}; {finding.found}"
    return Finding(finding.check, finding.subject, CheckStatus.UNKNOWN, found, advice)


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
        advice = f"Start the {program}, or correct its address, TLS or the firewall, as seen from Prometheus."
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
    exported = {(series["metric"].get("exported_cluster"), series["metric"].get("exported_node")) for series in up}
    if missing and any(name is not None for names in exported for name in names):
        found = f"no series pgslot_up for {', '.join(missing)}: Prometheus has renamed its labels to exported_cluster"
        advice = (
            "Set honor_labels: true in each scrape job of the exporter and the healer, as alerts/prometheus.yml does,"
            " and reload Prometheus: a label of the target has replaced the exporter's own label."
        )
        return Finding("nodes", shown, CheckStatus.FAILED, found, advice)
    if missing:
        advice = "The exporter uses another configuration (reload it) or is not scraped, or its labels are rewritten."
        return Finding("nodes", shown, CheckStatus.FAILED, f"no series pgslot_up for {', '.join(missing)}", advice)
    return Finding("nodes", shown, CheckStatus.OK, f"pgslot_up exists for all {len(wanted)} nodes")


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

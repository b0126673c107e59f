"""The whole chain, link by link: configuration, servers, healer, Prometheus, Alertmanager."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from healer.doctor.checks import alertmanager, prometheus, servers
from healer.doctor.checks import healer as receiver
from healer.doctor.checks.patroni_members import judge_members
from healer.doctor.http import Client
from healer.doctor.result import Finding, Status
from pgslot.cli.errors import ConfigError
from pgslot.config.model import Config
from pgslot.config.secrets import read_token


@dataclass(frozen=True, slots=True)
class Places:
    """Base URLs, as seen from here; None: that link is not examined."""

    healer: str
    prometheus: str | None
    alertmanager: str | None


def examine(
    config: Config,
    file: Path,
    places: Places,
    *,
    test_alert: bool = False,
    undiscovered: Mapping[str, str] | None = None,
) -> list[Finding]:
    """
    Return what holds and what does not; nothing is written anywhere.

    An empty webhook is all that is sent, and with `test_alert` marked alerts to Alertmanager. `undiscovered`: clusters
    whose members Patroni did not tell, and why.
    """
    findings = [_configuration(config, file), *judge_members(config, undiscovered or {})]
    findings += asyncio.run(servers.examine(config))
    healer = Client(places.healer)
    found, metrics = receiver.examine(healer, config)
    findings += found
    labels: dict[str, str] = {}
    if places.prometheus is None:
        findings.append(Finding("prometheus", "", Status.SKIPPED, "where it is was not said: --prometheus.url"))
    else:
        client = Client(places.prometheus)
        findings += prometheus.examine(client, config)
        labels = prometheus.external_labels(client)
    url = places.alertmanager or config.healer.alertmanager_url
    if url is None:
        found_out = "where it is was not said: --alertmanager.url, or healer.alertmanager_url in the configuration"
        findings.append(Finding("alertmanager", "", Status.SKIPPED, found_out))
    else:
        there = Client(url)
        findings += alertmanager.examine(there, config, labels, healer, metrics, test_alert=test_alert)
    return findings


def _configuration(config: Config, file: Path) -> Finding:
    """The file has been read already; here are its secrets, and what it lacks."""
    subject = str(file)
    secrets: list[Callable[[], str]] = []
    for cluster in config.clusters:
        secrets += [node.conninfo.read for node in cluster.nodes]
        secrets += [cluster.member.at("any", 1).read] if cluster.member is not None else []
        secrets += [cluster.healer.conninfo.secret] if cluster.healer is not None else []
    if config.healer.webhook_token_file is not None:
        secrets.append(partial(read_token, config.healer.webhook_token_file))
    unreadable = [error for read in secrets if (error := _error(read))]
    if unreadable:
        remedy = "Mount the secret, and let the programs' user (and yours, for this command) read it."
        return Finding("configuration", subject, Status.FAILED, "; ".join(unreadable), remedy)
    healed = sum(cluster.healer is not None for cluster in config.clusters)
    nodes = sum(len(cluster.nodes) for cluster in config.clusters)
    found = f"{len(config.clusters)} cluster(s), {healed} with a healer section, {nodes} node(s)"
    if not healed:
        remedy = "Give a cluster a healer section."
        return Finding("configuration", subject, Status.WARNING, f"{found}: nothing is healed", remedy)
    if config.healer.alertmanager_url is None:
        remedy = "Set healer.alertmanager_url."
        found = f"{found}; without alertmanager_url silences, and alerts before a restart, are not heard of"
        return Finding("configuration", subject, Status.WARNING, found, remedy)
    return Finding("configuration", subject, Status.OK, found)


def _error(read: Callable[[], str]) -> str:
    try:
        read()
    except ConfigError as error:
        return str(error)
    return ""

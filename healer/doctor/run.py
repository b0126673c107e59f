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
from healer.doctor.result import CheckStatus, Finding
from pgslot.cli.errors import ConfigError
from pgslot.config.model import Config
from pgslot.config.secrets import read_token


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Base URLs, as seen from here; None: that link is not examined."""

    healer: str
    prometheus: str | None
    alertmanager: str | None


def run_checks(
    config: Config,
    file: Path,
    places: Endpoints,
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
    findings += asyncio.run(servers.check_servers(config))
    healer = Client(places.healer)
    found, metrics = receiver.check_healer(healer, config)
    findings += found
    labels: dict[str, str] = {}
    if places.prometheus is None:
        findings.append(Finding("prometheus", "", CheckStatus.SKIPPED, "where it is was not said: --prometheus.url"))
    else:
        client = Client(places.prometheus)
        findings += prometheus.check_prometheus(client, config)
        labels = prometheus.external_labels(client)
    url = places.alertmanager or config.healer.alertmanager_url
    if url is None:
        found_out = "where it is was not said: --alertmanager.url, or healer.alertmanager_url in the configuration"
        findings.append(Finding("alertmanager", "", CheckStatus.SKIPPED, found_out))
    else:
        there = Client(url)
        findings += alertmanager.check_alertmanager(there, config, labels, healer, metrics, test_alert=test_alert)
    return findings


def _configuration(config: Config, file: Path) -> Finding:
    """The file has been read already; here are its secrets, and what it lacks."""
    subject = str(file)
    secrets: list[Callable[[], str]] = []
    for cluster in config.clusters:
        secrets += [node.conninfo.read for node in cluster.nodes]
        secrets += [cluster.member.at("any", 1).read] if cluster.member is not None else []
        secrets += [cluster.healer.conninfo.configured_text] if cluster.healer is not None else []
    if config.healer.webhook_token_file is not None:
        secrets.append(partial(read_token, config.healer.webhook_token_file))
    unreadable = [error for read in secrets if (error := _error(read))]
    if unreadable:
        remedy = "Mount the secret, and let the programs' user (and yours, for this command) read it."
        return Finding("configuration", subject, CheckStatus.FAILED, "; ".join(unreadable), remedy)
    healed = sum(cluster.healer is not None for cluster in config.clusters)
    nodes = sum(len(cluster.nodes) for cluster in config.clusters)
    found = f"{len(config.clusters)} cluster(s), {healed} with a healer section, {nodes} node(s)"
    if not healed:
        remedy = "Give a cluster a healer section."
        return Finding("configuration", subject, CheckStatus.WARNING, f"{found}: nothing is healed", remedy)
    if config.healer.alertmanager_url is None:
        remedy = "Set healer.alertmanager_url."
        found = f"{found}; without alertmanager_url silences, and alerts before a restart, are not heard of"
        return Finding("configuration", subject, CheckStatus.WARNING, found, remedy)
    return Finding("configuration", subject, CheckStatus.OK, found)


def _error(read: Callable[[], str]) -> str:
    try:
        read()
    except ConfigError as error:
        return str(error)
    return ""

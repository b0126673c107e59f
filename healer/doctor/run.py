"""Runs the checks in the order of the chain: configuration, servers, healer, Prometheus, Alertmanager."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from healer.doctor.checks.alertmanager import check_alertmanager
from healer.doctor.checks.healer import check_healer
from healer.doctor.checks.patroni_members import judge_members
from healer.doctor.checks.prometheus import check_prometheus, fetch_external_labels
from healer.doctor.checks.servers import check_servers
from healer.doctor.http import Client
from healer.doctor.result import CheckStatus, Finding
from pgslot.cli.errors import ConfigError
from pgslot.config.model import Config
from pgslot.config.secret_permissions import exposed_secrets
from pgslot.config.secrets import webhook_token


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Base URLs, as seen from this machine; None: that link is not checked."""

    healer: str
    prometheus: str | None
    alertmanager: str | None


async def run_checks(
    config: Config,
    file: Path,
    endpoints: Endpoints,
    *,
    test_alert: bool = False,
    discovery_errors: Mapping[str, str] | None = None,
    announce: Callable[[str], None] = lambda _step: None,
) -> list[Finding]:
    """
    Return the findings of all checks; nothing is written anywhere.

    An empty webhook is all that is sent, and with `test_alert` marked alerts to Alertmanager. `discovery_errors`: by
    cluster, why Patroni did not report its members. `announce` is called with each step, such as `asking Prometheus`.
    """
    findings = [
        _judge_configuration(config, file),
        *_judge_permissions(config),
        *judge_members(config, discovery_errors or {}),
    ]
    findings += await check_servers(config)
    announce("asking the healer")
    async with Client(endpoints.healer) as healer:
        healer_findings, metrics = await check_healer(healer, config)
        findings += healer_findings
        external_labels: dict[str, str] = {}
        if endpoints.prometheus is None:
            found = "not checked: give its address: --prometheus.url"
            findings.append(Finding("prometheus", "", CheckStatus.SKIPPED, found))
        else:
            announce("asking Prometheus")
            async with Client(endpoints.prometheus) as prometheus:
                findings += await check_prometheus(prometheus, config)
                external_labels = await fetch_external_labels(prometheus)
        url = endpoints.alertmanager or config.healer.alertmanager_url
        if url is None:
            found = "not checked: give its address: --alertmanager.url, or healer.alertmanager_url in the configuration"
            findings.append(Finding("alertmanager", "", CheckStatus.SKIPPED, found))
        else:
            announce("waiting for the test alert's way through Alertmanager" if test_alert else "asking Alertmanager")
            async with Client(url) as alertmanager:
                findings += await check_alertmanager(
                    alertmanager, config, external_labels, healer, metrics, test_alert=test_alert
                )
    return findings


def _judge_configuration(config: Config, file: Path) -> Finding:
    """Report secrets that cannot be read, and what the configuration lacks; the file itself has been read."""
    subject = str(file)
    secrets: list[Callable[[], str | None]] = [partial(webhook_token, config.healer)]
    for cluster in config.clusters:
        secrets += [node.conninfo.read for node in cluster.nodes]
        secrets += [cluster.member.at("any", 1).read] if cluster.member is not None else []
        secrets += [cluster.healer.conninfo.configured_text] if cluster.healer is not None else []
    errors = [error for read in secrets if (error := _read_error(read))]
    if errors:
        advice = "Mount the secret, and let the programs' user (and yours, for this command) read it."
        return Finding("configuration", subject, CheckStatus.FAILED, "; ".join(errors), advice)
    healed = sum(cluster.healer is not None for cluster in config.clusters)
    nodes = sum(len(cluster.nodes) for cluster in config.clusters)
    found = f"{len(config.clusters)} cluster(s), {healed} with a healer section, {nodes} node(s)"
    if not healed:
        advice = "Give a cluster a healer section."
        return Finding("configuration", subject, CheckStatus.WARNING, f"{found}: nothing is healed", advice)
    if config.healer.alertmanager_url is None:
        advice = "Set healer.alertmanager_url."
        without = f"{found}; without alertmanager_url, it ignores silences and misses alerts from before a restart"
        return Finding("configuration", subject, CheckStatus.WARNING, without, advice)
    return Finding("configuration", subject, CheckStatus.OK, found)


def _judge_permissions(config: Config) -> list[Finding]:
    """Report secrets whose files have the wrong mode; none: no finding."""
    return [
        Finding("secrets", str(secret.path), CheckStatus.WARNING, secret.problem, f"{secret.advice}.")
        for secret in exposed_secrets(config, healer=True)
    ]


def _read_error(read: Callable[[], str | None]) -> str:
    try:
        read()
    except ConfigError as error:
        return str(error)
    return ""

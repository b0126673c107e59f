"""Whether Patroni reports the members of the clusters that are configured by it."""

from collections.abc import Iterator, Mapping

from healer.doctor.result import CheckStatus, Finding
from pgslot.config.model import Config


def judge_members(config: Config, discovery_errors: Mapping[str, str]) -> Iterator[Finding]:
    """Name the members of each such cluster; `discovery_errors`: by cluster, why Patroni gave no answer."""
    for cluster in config.clusters:
        if cluster.patroni is None:
            continue
        if cluster.name in discovery_errors:
            advice = "Correct the URLs under patroni, or TLS or the firewall before Patroni's REST API (port 8008)."
            yield Finding("members", cluster.name, CheckStatus.FAILED, discovery_errors[cluster.name], advice)
        else:
            names = ", ".join(node.name for node in cluster.nodes)
            yield Finding("members", cluster.name, CheckStatus.OK, f"Patroni lists {len(cluster.nodes)}: {names}")

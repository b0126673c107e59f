"""Does Patroni tell the members of the clusters that are configured by it?"""

from collections.abc import Iterator, Mapping

from healer.doctor.result import CheckStatus, Finding
from pgslot.config.model import Config


def judge_members(config: Config, undiscovered: Mapping[str, str]) -> Iterator[Finding]:
    """Say who the members are; `undiscovered` are clusters without an answer, and why."""
    for cluster in config.clusters:
        if cluster.patroni is None:
            continue
        if cluster.name in undiscovered:
            remedy = "Put the URLs under patroni right, or TLS or the firewall before Patroni's REST API (port 8008)."
            yield Finding("members", cluster.name, CheckStatus.FAILED, undiscovered[cluster.name], remedy)
        else:
            names = ", ".join(node.name for node in cluster.nodes)
            yield Finding("members", cluster.name, CheckStatus.OK, f"Patroni tells of {len(cluster.nodes)}: {names}")

"""The answer of /sd, for Prometheus' http_sd_configs: every node is a target of this exporter."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pgslot.cli.errors import ConfigError
from pgslot.config.model import Config

_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
"""A name or an address, IPv6 in brackets, and a port: nothing with which a URL would go elsewhere."""


@dataclass(frozen=True, slots=True)
class ExporterAddress:
    """Where Prometheus reaches this exporter."""

    scheme: str
    host: str
    """With the port, unless it is the scheme's own."""
    path: str = ""
    """What a proxy puts in front of the exporter's paths: empty, or with a slash at the start and none at the end."""


def parse_external_url(url: str) -> ExporterAddress:
    """Return the address of `--web.external-url`. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and not (parts.query or parts.fragment)
    except ValueError:
        valid = False
    if not valid or not _HOST.fullmatch(parts.netloc):
        expected = "an http or https URL without user and query"
        raise ConfigError(f"--web.external-url: expected {expected}, such as https://pgslot.example.com, found {url!r}")
    return ExporterAddress(parts.scheme, parts.netloc, parts.path.rstrip("/"))


def address_of_request(scheme: str, host: str) -> ExporterAddress | None:
    """Return the address that a client used, from its Host header; None: it is not a host."""
    return ExporterAddress(scheme, host) if _HOST.fullmatch(host) else None


def target_groups(config: Config, address: ExporterAddress) -> list[dict[str, Any]]:
    """Return a target group for each node, with an instance label of its own."""
    return [
        {
            "targets": [address.host],
            "labels": {
                "__scheme__": address.scheme,
                "__metrics_path__": f"{address.path}/probe",
                "__param_cluster": cluster.name,
                "__param_node": node.name,
                "instance": f"{cluster.name}/{node.name}",
            },
        }
        for cluster in config.clusters
        for node in cluster.nodes
    ]

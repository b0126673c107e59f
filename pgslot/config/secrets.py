"""Reads the files that the configuration refers to: connection strings, certificates, the webhook token."""

from pathlib import Path

from pgslot.cli.errors import ConfigError
from pgslot.config.model import Config, PatroniConfig


def check_secrets(config: Config, *, healer: bool) -> None:
    """
    Read the secrets of the nodes and of Patroni; with `healer`, which the exporter does not set, the healer's as well.

    Raises ConfigError for the first one that cannot be used.
    """
    for cluster in config.clusters:
        for node in cluster.nodes:
            node.conninfo.read()
        if cluster.member is not None:
            cluster.member.at("any", 1).read()
        if cluster.patroni is not None:
            _check_certificates(cluster.name, cluster.patroni)
        if healer and cluster.healer is not None:
            cluster.healer.conninfo.configured_text()
            if cluster.healer.termination is not None:
                cluster.healer.termination.conninfo.configured_text()


def _check_certificates(name: str, patroni: PatroniConfig) -> None:
    try:
        patroni.tls()
    except OSError as error:
        place, expected = f"clusters.{name}.patroni", "certificates in ca_file, cert_file and key_file"
        raise ConfigError(f"{place}: expected {expected}, found: {error}") from None


def read_token(path: Path) -> str:
    """Return the webhook token without its line end. Raises ConfigError if the file cannot be read or is empty."""
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected a readable file with the webhook token, found: {error}") from None
    if not token:
        raise ConfigError(f"{path}: expected the webhook token, found an empty file")
    return token

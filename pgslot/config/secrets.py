"""Reads the files that the configuration refers to: connection strings, certificates, the webhook token."""

from pgslot.cli.errors import ConfigError
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Config, HealerSettings, PatroniConfig
from pgslot.config.secret_files import read_secret


def check_secrets(config: Config, *, healer: bool) -> None:
    """
    Read the secrets of the nodes and of Patroni; with `healer`, which the exporter does not set, the healer's as well.

    Raises ConfigError for the first one that cannot be used.
    """
    for cluster in config.clusters:
        for node in cluster.nodes:
            node.conninfo.read()
            _check_program(node.conninfo)
        if cluster.member is not None:
            cluster.member.at("any", 1).read()
            _check_program(cluster.member)
        if cluster.patroni is not None:
            _check_certificates(cluster.name, cluster.patroni)
        if healer and cluster.healer is not None:
            cluster.healer.conninfo.configured_text()
            _check_program(cluster.healer.conninfo)
            if cluster.healer.termination is not None:
                cluster.healer.termination.conninfo.configured_text()
                _check_program(cluster.healer.termination.conninfo)


def _check_program(conninfo: Conninfo) -> None:
    """Raise ConfigError if the program that prints the password does not exist. It is not run."""
    if conninfo.password is not None:
        conninfo.password.check()


def _check_certificates(name: str, patroni: PatroniConfig) -> None:
    try:
        patroni.tls()
    except OSError as error:
        place = patroni.place or f"clusters.{name}.patroni"
        files = ", ".join(str(file) for file in (patroni.ca_file, patroni.cert_file, patroni.key_file) if file)
        found = f"{error.filename}: {error.strerror}" if error.filename is not None else f"{files}: {error}"
        raise ConfigError(f"{place}: expected certificates in ca_file, cert_file and key_file, found {found}") from None


def webhook_token(settings: HealerSettings) -> str | None:
    """
    Return the webhook token; None: the configuration names no file.

    Raises ConfigError if the file cannot be read or is empty.
    """
    if settings.webhook_token_file is None:
        return None
    token = read_secret(settings.webhook_token_place, settings.webhook_token_file, "the webhook token")
    if not token:
        place = f"{settings.webhook_token_place}: " if settings.webhook_token_place else ""
        raise ConfigError(f"{place}expected the webhook token, found an empty file: {settings.webhook_token_file}")
    return token

"""The command line flags of both programs, in Prometheus' style."""

import argparse
import ipaddress
import platform
from dataclasses import dataclass
from pathlib import Path

from pgslot import __version__
from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import FORMATS, LEVELS


@dataclass(frozen=True, slots=True)
class Address:
    """Address to listen on. Host None: all interfaces."""

    host: str | None
    port: int

    @property
    def is_loopback(self) -> bool:
        return self.host is not None and is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Return whether the host is this machine's loopback interface."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def add_config_file(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """Add --config.file; `again`: for a subcommand, where a missing flag keeps the value given before it."""
    parser.add_argument(
        "--config.file",
        dest="config_file",
        type=Path,
        default=argparse.SUPPRESS if again else None,
        metavar="FILE",
        help="the YAML configuration",
    )


def add_common(parser: argparse.ArgumentParser, *, default_address: str, again: bool = False) -> None:
    """Add the flags that the exporter and the healer share; `again` as in add_config_file()."""

    def otherwise(default: object) -> object:
        return argparse.SUPPRESS if again else default

    add_config_file(parser, again=again)
    parser.add_argument(
        "--web.listen-address",
        dest="listen",
        default=otherwise(default_address),
        metavar="HOST:PORT",
        help=f"address to listen on (default {default_address}; an empty host means all interfaces)",
    )
    parser.add_argument(
        "--web.config.file",
        dest="web_config_file",
        type=Path,
        default=otherwise(None),
        metavar="FILE",
        help="TLS, users and headers of the web server, in the format of Prometheus' exporter-toolkit",
    )
    parser.add_argument(
        "--web.enable-lifecycle",
        dest="lifecycle",
        action="store_true",
        default=otherwise(False),
        help="allow POST /-/reload",
    )
    parser.add_argument(
        "--log.level",
        dest="log_level",
        choices=LEVELS,
        default=otherwise("info"),
        help="the lowest level to log; default info",
    )
    parser.add_argument(
        "--log.format",
        dest="log_format",
        choices=FORMATS,
        default=otherwise("logfmt"),
        help="the format of the log; default logfmt",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        default=otherwise(False),
        help="check the configuration and exit: 0 if it is valid, 2 if not",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"{parser.prog.split()[0]} {__version__} (Python {platform.python_version()})",
        help="show the versions of the program and of Python, and exit",
    )


def parse_address(text: str) -> Address:
    """Parse `host:port`, `:port` or `[::1]:port`. Raises ConfigError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"--web.listen-address: expected HOST:PORT, :PORT or [IPV6]:PORT, found {text!r}")
    return Address(host or None, int(port))

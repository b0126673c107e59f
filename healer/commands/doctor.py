"""`pg-slot-healer doctor`: checks the whole chain, and prints what works and what to do."""

import argparse
import asyncio
import sys
from collections.abc import Callable

from healer.commands.options import add_config_and_json, read_config
from healer.doctor.http import check_url
from healer.doctor.output import as_json, as_text, exit_code, wants_colour
from healer.doctor.result import Finding
from healer.doctor.run import Endpoints, run_checks
from pgslot.cli import logging as log
from pgslot.cli.progress import show_progress
from pgslot.config.model import Config
from pgslot.patroni.discovery import discover_once

HELP = "check the whole chain from the servers to Alertmanager, and show what to fix"
EXAMPLES = (
    (
        "Check the whole chain, from the servers to Alertmanager.",
        "pg-slot-healer doctor --config.file=pgslot.yml --prometheus.url=http://localhost:9090",
    ),
    (
        "Check which of Alertmanager's routes reach the healer, with a marked alert.",
        "pg-slot-healer doctor --config.file=pgslot.yml --test-alert",
    ),
)
DEFAULT_URL = "http://localhost:9878"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Checks every link of the chain and shows how to fix those that fail. Give each URL as seen from this machine."
        " URLs may contain a user and password, but these are better kept in ~/.netrc; REQUESTS_CA_BUNDLE or"
        " SSL_CERT_FILE names a certificate authority."
    )
    parser.add_argument(
        "--healer.url", dest="healer_url", default=DEFAULT_URL, metavar="URL", help="the healer; default %(default)s"
    )
    parser.add_argument(
        "--prometheus.url",
        dest="prometheus_url",
        metavar="URL",
        help="Prometheus; without this flag, doctor skips the checks of Prometheus",
    )
    parser.add_argument(
        "--alertmanager.url",
        dest="alertmanager_url",
        metavar="URL",
        help="Alertmanager; default: healer.alertmanager_url of the configuration",
    )
    parser.add_argument(
        "--test-alert",
        action="store_true",
        help="send a marked alert through each of Alertmanager's routes, and check which of them reach the healer",
    )
    add_config_and_json(parser)


def run(options: argparse.Namespace) -> int:
    """Check the whole chain and print the findings; 1 if a check failed, 3 if one is unknown."""
    endpoints = Endpoints(
        check_url("--healer.url", options.healer_url),
        options.prometheus_url and check_url("--prometheus.url", options.prometheus_url),
        options.alertmanager_url and check_url("--alertmanager.url", options.alertmanager_url),
    )
    # The findings have what the collector would warn of.
    log.setup("error", "logfmt")
    config = read_config(options)
    with show_progress("asking the servers") as progress:
        findings = asyncio.run(_discover_and_check(options, config, endpoints, progress.show))
    print(as_json(findings) if options.json else as_text(findings, colour=wants_colour(sys.stdout)))
    return exit_code(findings)


async def _discover_and_check(
    options: argparse.Namespace, config: Config, endpoints: Endpoints, announce: Callable[[str], None]
) -> list[Finding]:
    config, errors = await discover_once(config)
    return await run_checks(
        config,
        options.config_file,
        endpoints,
        test_alert=options.test_alert,
        discovery_errors=errors,
        announce=announce,
    )

"""`pg-slot-healer doctor`: checks the whole chain, and prints what works and what to do."""

import argparse
import asyncio
import sys

from healer.commands.options import add_config_and_json, read_config
from healer.doctor.http import check_url
from healer.doctor.output import as_json, as_text, exit_code, wants_colour
from healer.doctor.result import Finding
from healer.doctor.run import Endpoints, run_checks
from pgslot.cli import logging as log
from pgslot.config.model import Config
from pgslot.patroni.discovery import discover_once

HELP = "check the whole chain from the servers to Alertmanager, and say what to do"
DEFAULT_URL = "http://localhost:9878"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Checks each link and says what to do where one fails. URLs are as seen from here. They may have a"
        " user and password, which is better kept in ~/.netrc; REQUESTS_CA_BUNDLE or SSL_CERT_FILE names a certificate"
        " authority."
    )
    parser.add_argument(
        "--healer.url", dest="healer_url", default=DEFAULT_URL, metavar="URL", help="default %(default)s"
    )
    parser.add_argument("--prometheus.url", dest="prometheus_url", metavar="URL", help="otherwise left out")
    parser.add_argument(
        "--alertmanager.url", dest="alertmanager_url", metavar="URL", help="default: healer.alertmanager_url"
    )
    parser.add_argument(
        "--test-alert",
        action="store_true",
        help="send Alertmanager a marked alert along each route, and see which of them arrive at the healer",
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
    findings = asyncio.run(_discover_and_check(options, read_config(options), endpoints))
    print(as_json(findings) if options.json else as_text(findings, colour=wants_colour(sys.stdout)))
    return exit_code(findings)


async def _discover_and_check(options: argparse.Namespace, config: Config, endpoints: Endpoints) -> list[Finding]:
    config, errors = await discover_once(config)
    return await run_checks(
        config, options.config_file, endpoints, test_alert=options.test_alert, discovery_errors=errors
    )

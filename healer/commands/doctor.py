"""`pg-slot-healer doctor`: check the whole chain, and print what holds and what to do."""

import argparse
import asyncio
import sys

from healer.commands.configuration import read_config
from healer.doctor.http import check_url
from healer.doctor.output import as_json, as_text, exit_code, wants_colour
from healer.doctor.result import Finding
from healer.doctor.run import Endpoints, run_checks
from pgslot.cli import logging as log
from pgslot.config.model import Config
from pgslot.patroni.discovery import discover_once


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

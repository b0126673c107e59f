"""`pg-slot-healer doctor`: check the whole chain, and print what holds and what to do."""

import argparse
import asyncio
import sys

from healer.commands.configuration import read_config
from healer.doctor.http import check_url
from healer.doctor.output import as_json, as_text, exit_code, wants_colour
from healer.doctor.run import Endpoints, run_checks
from pgslot.cli import logging as log
from pgslot.patroni.discovery import discover_once


def run(options: argparse.Namespace) -> int:
    """Examine the whole chain and print what holds; 1 if something failed, 3 if something is unknown."""
    places = Endpoints(
        check_url("--healer.url", options.healer_url),
        options.prometheus_url and check_url("--prometheus.url", options.prometheus_url),
        options.alertmanager_url and check_url("--alertmanager.url", options.alertmanager_url),
    )
    # What the looks would warn of stands in the findings.
    log.setup("error", "logfmt")
    config, errors = asyncio.run(discover_once(read_config(options)))
    findings = run_checks(config, options.config_file, places, test_alert=options.test_alert, undiscovered=errors)
    print(as_json(findings) if options.json else as_text(findings, colour=wants_colour(sys.stdout)))
    return exit_code(findings)

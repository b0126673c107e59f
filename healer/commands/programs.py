"""What each command does: a function of the parsed options that returns the exit code."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from functools import partial

from healer.app import application
from healer.commands.grants import ender_script, script
from healer.commands.heal import find_cluster
from healer.commands.heal import heal as heal_cluster
from healer.commands.metrics_reference import metric_reference
from healer.commands.replay import replay as replay_file
from healer.doctor.http import check_url
from healer.doctor.output import as_json, as_text, exit_code, wants_colour
from healer.doctor.run import Places, examine
from pgslot.cli import flags
from pgslot.cli import logging as log
from pgslot.cli.errors import ConfigError
from pgslot.config.loader import load
from pgslot.config.model import Config
from pgslot.config.reload import Configuration
from pgslot.config.secrets import check_secrets, read_token
from pgslot.config.yaml_values import parse_duration
from pgslot.httpserver import web_config as webconfig
from pgslot.httpserver.run import serve as serve_until_stopped
from pgslot.httpserver.web_config import WebConfig
from pgslot.patroni.discovery import discovered

BAD_INPUT = 2

Command = Callable[[argparse.Namespace], int]
"""Raises ConfigError for bad input."""


def serve(options: argparse.Namespace) -> int:
    """Take webhooks until a signal; with --check only read the configuration."""
    address = flags.parse_address(options.listen)
    web_config = webconfig.load(options.web_config_file) if options.web_config_file else None
    strangers = not (address.is_loopback or options.allow_unauthenticated)
    read = partial(_read_to_serve, options, web_config, strangers=strangers)
    configuration = Configuration(read, read())
    if options.check:
        clusters = configuration.config.clusters
        count = sum(cluster.healer is not None for cluster in clusters)
        print(f"configuration is valid: {count} of {len(clusters)} cluster(s) with a healer section")
        return 0
    log.setup(options.log_level, options.log_format)
    app = application(configuration, lifecycle=options.lifecycle)
    asyncio.run(serve_until_stopped(app, address, "pg-slot-healer", configuration.reload_soon, web_config))
    return 0


def heal(options: argparse.Namespace) -> int:
    """One episode by hand: options.cluster, dry_run, json, config_file."""
    log.setup("error", "logfmt")
    limit = _seconds(options.give_up_after)
    config = read_config(options)
    find_cluster(config, options.cluster)

    async def run() -> int:
        known, errors = await discovered(config, {options.cluster})
        for name, error in errors.items():
            raise ConfigError(f"clusters.{name}.patroni: expected an answer of one of its URLs, found: {error}")
        return await heal_cluster(
            known, options.cluster, dry_run=options.dry_run, give_up_after=limit, as_json=options.json
        )

    return asyncio.run(run())


def replay(options: argparse.Namespace) -> int:
    """Tell what would be done with a saved webhook body: options.file, json, config_file."""
    log.setup("error", "logfmt")
    config = read_config(options)

    async def run() -> int:
        # Without an answer there are no nodes, and of each alert it is said that its node is unknown.
        known, errors = await discovered(config)
        for name, error in errors.items():
            print(log.printable(f"Patroni does not tell the members of {name}: {error}"), file=sys.stderr)
        return await replay_file(known, options.file, offline=options.offline, as_json=options.json)

    return asyncio.run(run())


def grants(options: argparse.Namespace) -> int:
    """Print the SQL that makes both roles; with --end-transactions that of the third, and of nothing else."""
    both = None if options.end_transactions else script(options.exporter_role, options.healer_role)
    print(ender_script(options.ender_role) if both is None else both, end="")
    return 0


def _seconds(duration: str | None) -> float | None:
    if duration is None:
        return None
    try:
        return parse_duration(duration)
    except ValueError:
        raise ConfigError(f"--give-up-after: expected a duration such as 30s or 5m, found {duration!r}") from None


def metrics(_options: argparse.Namespace) -> int:
    """Print the metric reference."""
    print(metric_reference(), end="")
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Examine the whole chain and print what holds; 1 if something failed, 3 if something is unknown."""
    places = Places(
        check_url("--healer.url", options.healer_url),
        options.prometheus_url and check_url("--prometheus.url", options.prometheus_url),
        options.alertmanager_url and check_url("--alertmanager.url", options.alertmanager_url),
    )
    # What the looks would warn of stands in the findings.
    log.setup("error", "logfmt")
    config, errors = asyncio.run(discovered(read_config(options)))
    findings = examine(config, options.config_file, places, test_alert=options.test_alert, undiscovered=errors)
    print(as_json(findings) if options.json else as_text(findings, colour=wants_colour(sys.stdout)))
    return exit_code(findings)


def read_config(options: argparse.Namespace) -> Config:
    """Return the configuration that the command line names. Raises ConfigError."""
    if options.config_file is None:
        raise ConfigError("command line: expected --config.file, found none")
    return load(options.config_file)


def _read_to_serve(options: argparse.Namespace, web_config: WebConfig | None, *, strangers: bool) -> Config:
    config = read_config(options)
    check_secrets(config, healer=True)
    if config.healer.webhook_token_file is not None:
        read_token(config.healer.webhook_token_file)
        if web_config is not None and web_config.users:
            raise ConfigError(
                "healer.webhook_token_file: expected either a token or basic_auth_users in --web.config.file,"
                " found both: a webhook has one Authorization header"
            )
    elif strangers and not (web_config is not None and web_config.authenticates):
        # Strangers could make the healer act otherwise.
        raise ConfigError(
            "healer.webhook_token_file: expected a token to listen beyond loopback, found none"
            " (or use --web.config.file with users or client certificates, or --web.allow-unauthenticated)"
        )
    return config

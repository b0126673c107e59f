"""The command line of pg-slot-exporter: flags, the commands that print, and the server."""

import argparse
import asyncio
import gc
import sys
from collections.abc import Sequence
from functools import partial

from exporter.app import application
from exporter.metrics_reference import metric_reference
from exporter.sql_reference import sql_reference
from pgslot import __version__
from pgslot.alerting_rules import SHIPPED_BASE, alerting_rules
from pgslot.cli import exit_codes, flags
from pgslot.cli import logging as log
from pgslot.cli.errors import ConfigError
from pgslot.config.loader import load, single
from pgslot.config.model import Config
from pgslot.config.reload import ConfigReloader
from pgslot.config.secrets import check_secrets
from pgslot.httpserver import web_config as webconfig
from pgslot.httpserver.run import serve
from pgslot.httpserver.web_config import WebConfig

GC_THRESHOLD = 20_000
"""
Net allocations that start the garbage collector; Python's own is 700.

Thousands of tuples are made in each scrape of 1,000 slots and freed without the collector. Measured there: 1.3 ms less
(4 % of a scrape), nothing at 10 and 200 slots; freezing what is there at the start (gc.freeze) gained nothing further.
"""


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        prog="pg-slot-exporter",
        description="Prometheus exporter that shows why PostgreSQL's logical replication slots wait or retain WAL.",
    )
    flags.add_common(result, default_address=":9877")
    result.add_argument(
        "--conninfo",
        metavar="CONNINFO",
        help="one server, instead of a configuration file; an empty string means libpq's own environment",
    )
    result.add_argument(
        "command",
        nargs="?",
        choices=("serve", "sql", "metrics", "rules"),
        default="serve",
        help="sql prints every query, per version; metrics the metric reference; rules the alerting rules for"
        " Prometheus; default %(default)s",
    )
    result.add_argument(
        "--runbook-base",
        metavar="URL",
        default=SHIPPED_BASE,
        help="for rules: where people reach the runbooks, default %(default)s",
    )
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; exits with 2 on bad input."""
    options = parser().parse_args(arguments)
    code = exit_codes.run_command(partial(_run, options))
    if code:
        sys.exit(code)


def _run(options: argparse.Namespace) -> int:
    if options.command == "sql":
        print(sql_reference())
        return 0
    if options.command == "metrics":
        print(metric_reference(), end="")
        return 0
    try:
        if options.command == "rules":
            print(alerting_rules(options.runbook_base), end="")
            return 0
        configuration = ConfigReloader(partial(_read_config, options), _read_config(options))
        address = flags.parse_address(options.listen)
        web_config = webconfig.load(options.web_config_file) if options.web_config_file else None
        if options.check:
            clusters = configuration.config.clusters
            nodes = sum(len(cluster.nodes) for cluster in clusters)
            by_patroni = sum(cluster.patroni is not None for cluster in clusters)
            members = f" and the members of {by_patroni} that Patroni tells" if by_patroni else ""
            print(f"configuration is valid: {len(clusters)} cluster(s), {nodes} node(s){members}")
            return 0
        log.setup(options.log_level, options.log_format)
        asyncio.run(_serve(configuration, address, web_config, options))
    except ConfigError as error:
        print(log.printable(f"pg-slot-exporter: {error}"), file=sys.stderr)
        return exit_codes.BAD_INPUT
    return 0


async def _serve(
    configuration: ConfigReloader, address: flags.Address, web_config: WebConfig | None, options: argparse.Namespace
) -> None:
    app = application(configuration, lifecycle=options.lifecycle)
    gc.set_threshold(GC_THRESHOLD, 10, 10)
    await serve(
        app,
        address,
        program="pg-slot-exporter",
        version=__version__,
        reload=configuration.schedule_reload,
        web_config=web_config,
    )


def _read_config(options: argparse.Namespace) -> Config:
    if (options.config_file is None) == (options.conninfo is None):
        given = "neither" if options.config_file is None else "both"
        raise ConfigError(f"command line: expected exactly one of --config.file and --conninfo, found {given}")
    config = load(options.config_file) if options.conninfo is None else single(options.conninfo)
    check_secrets(config, healer=False)
    return config


if __name__ == "__main__":
    main()

"""`pg-slot-exporter serve`, the default: runs the exporter until a signal ends it."""

import argparse
import asyncio
import gc
from collections.abc import Callable
from functools import partial

from aiohttp import web
from psycopg.conninfo import conninfo_to_dict

from exporter.app import application
from exporter.commands.options import read_config
from exporter.service_discovery import parse_external_url
from pgslot import __version__
from pgslot.cli import flags
from pgslot.cli import logging as log
from pgslot.cli.errors import ConfigError
from pgslot.config.keys import duration
from pgslot.config.reload import ConfigReloader
from pgslot.config.secret_permissions import exposed_secrets, log_exposed_secrets
from pgslot.config.yaml_values import parse_duration
from pgslot.httpserver import web_config as webconfig
from pgslot.httpserver.run import serve
from pgslot.httpserver.web_config import WebConfig
from pgslot.snapshot.deadlines import LISTING_INTERVAL_SECONDS

HELP = "run the exporter (the default)"
EXAMPLES = (
    (
        "Serve the metrics of one server on port 9877.",
        'pg-slot-exporter serve --conninfo="host=db dbname=postgres user=pgslot_exporter"',
    ),
    ("Check a configuration without serving.", "pg-slot-exporter serve --config.file=pgslot.yml --check"),
    (
        "Serve on one address alone, with TLS and users.",
        "pg-slot-exporter serve --config.file=pgslot.yml --web.listen-address=10.0.0.5:9877 --web.config.file=web.yml",
    ),
)
logger = log.get_logger(__name__)

GC_THRESHOLD = 20_000
"""
Net allocations that start the garbage collector; Python's own is 700.

Thousands of tuples are made in each scrape of 1,000 slots and freed without the collector. Measured there: 1.3 ms less
(4 % of a scrape), nothing at 10 and 200 slots; freezing what is there at the start (gc.freeze) gained nothing further.
"""

MIN_LISTING_INTERVAL = 1.0
MAX_LISTING_INTERVAL = 3600.0
"""Seconds, of --wal.listing-interval."""


def add_arguments(parser: argparse.ArgumentParser, *, again: bool = True) -> None:
    """Add the flags; `again`: for the subcommand, where a missing flag keeps the value given before it."""
    default = argparse.SUPPRESS if again else None
    flags.add_common(parser, default_address=":9877", again=again)
    parser.add_argument(
        "--web.external-url",
        dest="external_url",
        metavar="URL",
        default=default,
        help="the exporter's URL as seen from Prometheus, which /sd (HTTP service discovery) returns as the target; "
        "default: the host of the request",
    )
    usual_interval = duration(LISTING_INTERVAL_SECONDS)
    parser.add_argument(
        "--wal.listing-interval",
        dest="listing_interval",
        metavar="DURATION",
        default=argparse.SUPPRESS if again else usual_interval,
        help=f"how long the exporter waits before it lists the WAL directory of a node again, default {usual_interval}",
    )
    parser.add_argument(
        "--conninfo",
        metavar="CONNINFO",
        default=default,
        help="one server, instead of a configuration file; an empty string means libpq's own environment; keep"
        " the password in a passfile, not here",
    )


def run(options: argparse.Namespace) -> int:
    """Check the configuration, and serve unless --check is given. Raises ConfigError."""
    configuration = ConfigReloader(partial(read_config, options), read_config(options))
    address = flags.parse_address(options.listen)
    web_config = webconfig.load(options.web_config_file) if options.web_config_file else None
    listing_interval = _listing_interval(options.listing_interval)
    external = parse_external_url(options.external_url) if options.external_url is not None else None
    if options.check:
        clusters = configuration.config.clusters
        nodes = sum(len(cluster.nodes) for cluster in clusters)
        by_patroni = sum(cluster.patroni is not None for cluster in clusters)
        members = f" and the members that Patroni lists for {by_patroni} cluster(s)" if by_patroni else ""
        print(f"configuration is valid: {len(clusters)} cluster(s), {nodes} node(s){members}")
        log.print_warnings([*exposed_secrets(configuration.config, healer=False), *_exposed_password(options)])
        return 0
    log.setup(options.log_level, options.log_format)
    for warning in _exposed_password(options):
        logger.warning(warning)
    log_exposed = partial(log_exposed_secrets, healer=False)
    log_exposed(configuration.config)
    configuration.on_change(log_exposed)
    build = partial(
        application,
        configuration,
        lifecycle=options.lifecycle,
        external_address=external,
        listing_interval=listing_interval,
    )
    asyncio.run(_serve(build, configuration, address, web_config))
    return 0


async def _serve(
    build: Callable[[], web.Application],
    configuration: ConfigReloader,
    address: flags.Address,
    web_config: WebConfig | None,
) -> None:
    """Serve what `build` returns, called here, as an application belongs to a running loop."""
    gc.set_threshold(GC_THRESHOLD, 10, 10)
    await serve(
        build(),
        address,
        program="pg-slot-exporter",
        version=__version__,
        reload=configuration.schedule_reload,
        web_config=web_config,
    )


def _listing_interval(text: str) -> float:
    """Return the seconds of --wal.listing-interval. Raises ConfigError."""
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if not MIN_LISTING_INTERVAL <= seconds <= MAX_LISTING_INTERVAL:
        limits = f"{duration(MIN_LISTING_INTERVAL)} to {duration(MAX_LISTING_INTERVAL)}"
        raise ConfigError(f"--wal.listing-interval: expected a duration of {limits}, found {text!r}")
    return seconds


def _exposed_password(options: argparse.Namespace) -> list[str]:
    """Return a warning if the command line has a password, and none otherwise."""
    if not options.conninfo or not conninfo_to_dict(options.conninfo).get("password"):
        return []
    return [
        "--conninfo has a password, which every user of this machine can read in the list of processes:"
        " use passfile=, or a configuration file with conninfo_file"
    ]

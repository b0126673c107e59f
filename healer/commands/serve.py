"""`pg-slot-healer serve`: take webhooks and heal, until a signal."""

import argparse
import asyncio
from functools import partial

from healer.app import application
from healer.commands.configuration import read_config
from pgslot import __version__
from pgslot.cli import flags
from pgslot.cli import logging as log
from pgslot.cli.errors import ConfigError
from pgslot.config.model import Config
from pgslot.config.reload import ConfigReloader
from pgslot.config.secrets import check_secrets, read_token
from pgslot.httpserver import web_config as webconfig
from pgslot.httpserver.run import serve as serve_until_stopped
from pgslot.httpserver.web_config import WebConfig


def run(options: argparse.Namespace) -> int:
    """Take webhooks until a signal; with --check only read the configuration."""
    address = flags.parse_address(options.listen)
    web_config = webconfig.load(options.web_config_file) if options.web_config_file else None
    strangers = not (address.is_loopback or options.allow_unauthenticated)
    read = partial(_read_to_serve, options, web_config, strangers=strangers)
    configuration = ConfigReloader(read, read())
    if options.check:
        clusters = configuration.config.clusters
        count = sum(cluster.healer is not None for cluster in clusters)
        print(f"configuration is valid: {count} of {len(clusters)} cluster(s) with a healer section")
        return 0
    log.setup(options.log_level, options.log_format)
    app = application(configuration, lifecycle=options.lifecycle)
    asyncio.run(
        serve_until_stopped(
            app,
            address,
            program="pg-slot-healer",
            version=__version__,
            reload=configuration.schedule_reload,
            web_config=web_config,
        )
    )
    return 0


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

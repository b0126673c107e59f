"""`pg-slot-healer serve`: takes webhooks and heals, until a signal."""

import argparse
import asyncio
from functools import partial

from healer.app import application
from healer.commands.options import read_config
from pgslot import __version__
from pgslot.cli import flags
from pgslot.cli import logging as log
from pgslot.cli.errors import ConfigError
from pgslot.config.model import Config
from pgslot.config.reload import ConfigReloader
from pgslot.config.secret_permissions import exposed_secrets, log_exposed_secrets
from pgslot.config.secrets import check_secrets, webhook_token
from pgslot.httpserver import web_config as web_configuration
from pgslot.httpserver.run import serve as serve_until_stopped
from pgslot.httpserver.web_config import WebConfig

HELP = "receive webhooks and heal (the default)"
EXAMPLES = (
    ("Receive webhooks on port 9878.", "pg-slot-healer serve --config.file=pgslot.yml"),
    ("Check a configuration without serving.", "pg-slot-healer serve --config.file=pgslot.yml --check"),
)
DEFAULT_ADDRESS = ":9878"


def add_arguments(parser: argparse.ArgumentParser, *, again: bool = True) -> None:
    """Add the flags; `again`: they may have been given before the command already, which then stays."""
    flags.add_common(parser, default_address=DEFAULT_ADDRESS, again=again)
    parser.add_argument(
        "--web.allow-unauthenticated",
        dest="allow_unauthenticated",
        action="store_true",
        default=argparse.SUPPRESS if again else False,
        help="accept webhooks without a token on addresses other than loopback",
    )


def run(options: argparse.Namespace) -> int:
    """Serve until a signal; with --check only read the configuration."""
    address = flags.parse_address(options.listen)
    web_config = web_configuration.load(options.web_config_file) if options.web_config_file else None
    needs_authentication = not (address.is_loopback or options.allow_unauthenticated)
    read = partial(_read_and_check, options, web_config, needs_authentication=needs_authentication)
    configuration = ConfigReloader(read, read())
    if options.check:
        clusters = configuration.config.clusters
        count = sum(cluster.healer is not None for cluster in clusters)
        print(f"configuration is valid: {count} of {len(clusters)} cluster(s) with a healer section")
        log.print_warnings(exposed_secrets(configuration.config, healer=True))
        return 0
    log.setup(options.log_level, options.log_format)
    log_exposed = partial(log_exposed_secrets, healer=True)
    log_exposed(configuration.config)
    configuration.on_change(log_exposed)
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


def _read_and_check(options: argparse.Namespace, web_config: WebConfig | None, *, needs_authentication: bool) -> Config:
    config = read_config(options)
    check_secrets(config, healer=True)
    if webhook_token(config.healer) is not None:
        if web_config is not None and web_config.users:
            raise ConfigError(
                "healer.webhook_token_file: expected either a token or basic_auth_users in --web.config.file,"
                " found both: a webhook has one Authorization header"
            )
    elif needs_authentication and not (web_config is not None and web_config.authenticates):
        # Otherwise any client that reaches the port could make the healer act.
        raise ConfigError(
            "healer.webhook_token_file: expected a token to listen beyond loopback, found none"
            " (or use --web.config.file with users or client certificates, or --web.allow-unauthenticated)"
        )
    return config

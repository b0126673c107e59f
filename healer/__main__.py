"""pg-slot-healer: the command line."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from functools import partial

from exporter import flags, log, webconfig
from exporter.config import Config, check_secrets, load, read_token
from exporter.reload import Configuration
from exporter.serve import serve
from exporter.webconfig import WebConfig
from exporter.yamlfile import ConfigError
from healer.web import application

BAD_INPUT = 2


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        prog="pg-slot-healer",
        description="Takes Alertmanager's webhooks and forces the running-xacts record that a slot waits for.",
    )
    flags.add_common(result, default_address=":9878")
    result.add_argument(
        "--web.allow-unauthenticated",
        dest="allow_unauthenticated",
        action="store_true",
        help="take webhooks without a token on other addresses than loopback",
    )
    result.add_argument("command", nargs="?", choices=("serve",), default="serve", help="default %(default)s")
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; exits with 2 on bad input."""
    options = parser().parse_args(arguments)
    try:
        address = flags.parse_address(options.listen)
        web_config = webconfig.load(options.web_config_file) if options.web_config_file else None
        strangers = not (address.is_loopback or options.allow_unauthenticated)
        read = partial(_read, options, web_config, strangers=strangers)
        configuration = Configuration(read, read())
        if options.check:
            clusters = configuration.config.clusters
            count = sum(cluster.healer is not None for cluster in clusters)
            print(f"configuration is valid: {count} of {len(clusters)} cluster(s) with a healer section")
            return
        log.setup(options.log_level, options.log_format)
        asyncio.run(_serve(configuration, address, web_config, options))
    except ConfigError as error:
        print(f"pg-slot-healer: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)


async def _serve(
    configuration: Configuration, address: flags.Address, web_config: WebConfig | None, options: argparse.Namespace
) -> None:
    app = application(configuration, lifecycle=options.lifecycle)
    await serve(app, address, "pg-slot-healer", configuration.reload, web_config)


def _read(options: argparse.Namespace, web_config: WebConfig | None, *, strangers: bool) -> Config:
    if options.config_file is None:
        raise ConfigError("command line: expected --config.file, found none")
    config = load(options.config_file)
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


if __name__ == "__main__":
    main()

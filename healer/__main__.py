"""pg-slot-healer: the command line."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from exporter import flags, log
from exporter.config import Config, check_secrets, load, read_token
from exporter.serve import serve
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
        config = _configuration(options)
        check_secrets(config, healer=True)
        address = flags.parse_address(options.listen)
        token = _token(config, address, allow_none=options.allow_unauthenticated)
        if options.check:
            count = sum(cluster.healer is not None for cluster in config.clusters)
            print(f"configuration is valid: {count} of {len(config.clusters)} cluster(s) with a healer section")
            return
        log.setup(options.log_level, options.log_format)
        asyncio.run(_serve(config, address, token))
    except ConfigError as error:
        print(f"pg-slot-healer: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)


def _configuration(options: argparse.Namespace) -> Config:
    if options.config_file is None:
        raise ConfigError("command line: expected --config.file, found none")
    return load(options.config_file)


async def _serve(config: Config, address: flags.Address, token: str) -> None:
    await serve(application(config, token), address, "pg-slot-healer")


def _token(config: Config, address: flags.Address, *, allow_none: bool) -> str:
    """Return the webhook token, empty for none. Raises ConfigError where strangers could then make the healer act."""
    if config.healer.webhook_token_file is not None:
        return read_token(config.healer.webhook_token_file)
    if not address.is_loopback and not allow_none:
        raise ConfigError(
            "healer.webhook_token_file: expected a token to listen beyond loopback, found none"
            " (or pass --web.allow-unauthenticated)"
        )
    return ""


if __name__ == "__main__":
    main()

"""pg-slot-exporter: the command line."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from exporter import flags, log
from exporter.config import Config, check_secrets, load, single
from exporter.probes import PROBES, SUPPORTED
from exporter.serve import serve
from exporter.web import application
from exporter.yamlfile import ConfigError

BAD_INPUT = 2


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
        "command", nargs="?", choices=("serve", "sql"), default="serve", help="sql prints every query, per version"
    )
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; exits with 2 on bad input."""
    options = parser().parse_args(arguments)
    if options.command == "sql":
        print(sql_reference())
        return
    try:
        config = _configuration(options)
        check_secrets(config, healer=False)
        address = flags.parse_address(options.listen)
        if options.check:
            nodes = sum(len(cluster.nodes) for cluster in config.clusters)
            print(f"configuration is valid: {len(config.clusters)} cluster(s), {nodes} node(s)")
            return
        log.setup(options.log_level, options.log_format)
        asyncio.run(_serve(config, address))
    except ConfigError as error:
        print(f"pg-slot-exporter: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)


def sql_reference() -> str:
    """Return each query as each supported version of PostgreSQL gets it; versions with the same text share it."""
    parts = []
    for probe in PROBES:
        texts: dict[str, list[int]] = {}
        for major in SUPPORTED:
            texts.setdefault(probe.sql(major), []).append(major)
        for text, majors in texts.items():
            parts.append(f"-- {probe.name}: PostgreSQL {', '.join(map(str, majors))}\n{text};\n")
    return "\n".join(parts)


async def _serve(config: Config, address: flags.Address) -> None:
    await serve(application(config), address, "pg-slot-exporter")


def _configuration(options: argparse.Namespace) -> Config:
    if (options.config_file is None) == (options.conninfo is None):
        found = "neither" if options.config_file is None else "both"
        raise ConfigError(f"command line: expected exactly one of --config.file and --conninfo, found {found}")
    return load(options.config_file) if options.conninfo is None else single(options.conninfo)


if __name__ == "__main__":
    main()

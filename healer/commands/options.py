"""What several commands share: the options --config.file and --json."""

import argparse

from pgslot.cli import flags
from pgslot.cli.errors import ConfigError
from pgslot.config.loader import load
from pgslot.config.model import Config


def add_config_and_json(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a command that reads the configuration and reports."""
    flags.add_config_file(parser, again=True)
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def read_config(options: argparse.Namespace) -> Config:
    """Return the configuration that the command line names. Raises ConfigError."""
    if options.config_file is None:
        raise ConfigError("command line: expected --config.file, found none")
    return load(options.config_file)

"""The configuration file that the command line names."""

import argparse

from pgslot.cli.errors import ConfigError
from pgslot.config.loader import load
from pgslot.config.model import Config


def read_config(options: argparse.Namespace) -> Config:
    """Return the configuration that the command line names. Raises ConfigError."""
    if options.config_file is None:
        raise ConfigError("command line: expected --config.file, found none")
    return load(options.config_file)

"""What commands share: the configuration that the command line names."""

import argparse

from pgslot.cli.errors import ConfigError
from pgslot.config.loader import load, single
from pgslot.config.model import Config
from pgslot.config.secrets import check_secrets


def read_config(options: argparse.Namespace) -> Config:
    """Return the configuration of --config.file or --conninfo. Raises ConfigError, also for secrets."""
    if (options.config_file is None) == (options.conninfo is None):
        given = "neither" if options.config_file is None else "both"
        raise ConfigError(f"command line: expected exactly one of --config.file and --conninfo, found {given}")
    config = load(options.config_file) if options.conninfo is None else single(options.conninfo)
    check_secrets(config, healer=False)
    return config

"""The error for bad input, which ends a command with exit code 2."""


class ConfigError(Exception):
    """Bad input from the user. The text names the place, what was expected, and what was found."""

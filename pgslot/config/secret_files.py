"""Reads a file that the configuration names; errors have the place in the configuration and the file's own path."""

from pathlib import Path

from pgslot.cli.errors import ConfigError


def read_secret(place: str, path: Path, content: str) -> str:
    """
    Return the file's text without white space at both ends.

    Raises ConfigError if it cannot be read. `place`: file, line and key that name it, or empty; `content`: what should
    be in it, as in "a conninfo".
    """
    try:
        return path.read_text("utf-8").strip()
    except OSError as error:
        found = f"{path}: {error.strerror}"
    except UnicodeDecodeError:
        found = f"{path}: it is not UTF-8 text"
    raise ConfigError(f"{place + ': ' if place else ''}expected a readable file with {content}, found {found}")

"""Reads YAML into values that know their file, line and key, so that every error can name its place."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from pgslot.cli.errors import ConfigError
from pgslot.config.yaml_errors import explain

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_DURATION_UNITS = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_SIZE = re.compile(r"(\d+(?:\.\d+)?) *(kB|MB|GB|TB)")
_SIZE_UNITS = {"kB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
"""PostgreSQL's units of memory."""


@dataclass(frozen=True)
class Value:
    """One value of a YAML file, and its place there."""

    file: str
    line: int
    key: str
    """Dotted path from the top; empty for the document itself."""
    data: Any
    """A scalar as YAML resolves it, a list of Value, or a dict of str to Value."""

    @property
    def place(self) -> str:
        """File, line and key, as errors begin."""
        return f"{self.file}:{self.line}: {self.key}" if self.key else f"{self.file}:{self.line}"

    def error(self, expected: str, found: str | None = None) -> ConfigError:
        """Return an error at this place. `found` must not show a secret; None: the value itself."""
        return ConfigError(f"{self.place}: expected {expected}, found {self.shown() if found is None else found}")

    def shown(self) -> str:
        """Return the value for an error: what kind of collection it is, or the scalar itself."""
        if isinstance(self.data, dict):
            return "a mapping" if self.data else "an empty mapping"
        if isinstance(self.data, list):
            return "a list"
        try:
            return "nothing" if self.data is None else repr(self.data)
        except ValueError:  # more than 4,300 digits
            return "a number too long to be shown"

    def mapping(self, expected: str, allowed: tuple[str, ...] | None = None) -> dict[str, "Value"]:
        """Return the mapping. Raises ConfigError if it is not one, or has a key that is not in `allowed`."""
        if not isinstance(self.data, dict):
            raise self.error(expected)
        if allowed is not None:
            for name, value in self.data.items():
                if name not in allowed:
                    raise value.error(f"one of the keys {', '.join(allowed)}", f"the unknown key {name!r}")
        return self.data

    def string(self, expected: str) -> str:
        if not isinstance(self.data, str):
            raise self.error(expected)
        return self.data

    def items(self, expected: str) -> list["Value"]:
        """Return the items of a list. Raises ConfigError if it is not a list, or empty."""
        if not isinstance(self.data, list) or not self.data:
            raise self.error(expected)
        return self.data

    def boolean(self) -> bool:
        if not isinstance(self.data, bool):
            raise self.error("true or false")
        return self.data

    def positive_integer(self) -> int:
        if not isinstance(self.data, int) or isinstance(self.data, bool) or self.data < 1:
            raise self.error("a whole number of at least 1")
        return self.data

    def duration(self) -> float:
        """Return seconds, more than 0."""
        expected = "a duration such as 500ms, 10s or 1h, longer than 0"
        try:
            seconds = parse_duration(self.string(expected))
        except ValueError:
            raise self.error(expected) from None
        if seconds <= 0:
            raise self.error(expected)
        return seconds

    def size(self) -> int:
        """Return bytes, at least 1, of a size in PostgreSQL's units."""
        expected = "a size such as 200GB, in kB, MB, GB or TB, larger than 0"
        match = _SIZE.fullmatch(self.string(expected))
        size = int(float(match[1]) * _SIZE_UNITS[match[2]]) if match is not None else 0
        if size <= 0:
            raise self.error(expected)
        return size

    def url(self) -> str:
        """Return an http or https URL without a trailing slash."""
        url = self.string("an http or https URL")
        try:
            parts = urlsplit(url)
        except ValueError:
            raise self.error("an http or https URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise self.error("an http or https URL")
        return url.rstrip("/")

    def path(self) -> Path:
        """Return a path; a relative one is relative to the YAML file, as in Prometheus."""
        return Path(self.file).parent / self.string("a file name")


def parse_duration(text: str) -> float:
    """Return the seconds of a duration in Prometheus' notation (`500ms`, `10s`, `1h30m`). Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"not a duration: {text!r}")
    return sum(int(part) * unit for part, unit in zip(match.groups(), _DURATION_UNITS, strict=True) if part)


def read(path: Path) -> Value:
    """
    Read a YAML file with one document.

    Raises ConfigError if the file cannot be read, is not YAML, or has a key twice in one mapping.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable file, found: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, found byte 0x{error.object[error.start]:02x}") from None
    try:
        return _parse(text, str(path))
    except yaml.YAMLError as error:
        line, expected, found = explain(error, text)
        raise ConfigError(f"{path}:{line}: expected {expected}, found {found}") from None
    except RecursionError:
        raise ConfigError(f"{path}: expected YAML, found collections nested too deeply") from None


def _parse(text: str, file: str) -> Value:
    # CSafeLoader is three times as fast, but a file that is nested too deeply crashes the process.
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        return Value(file, 1, "", None) if root is None else _value(loader, root, file, "")
    finally:
        loader.dispose()


def _value(loader: yaml.SafeLoader, node: yaml.Node, file: str, key: str) -> Value:
    line = node.start_mark.line + 1
    data: Any
    if isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)
        data = dict(_items(loader, node, file, key))
    elif isinstance(node, yaml.SequenceNode):
        data = [_value(loader, item, file, f"{key}[{i}]") for i, item in enumerate(node.value)]
    else:
        try:
            data = loader.construct_object(node)
        except ValueError as error:
            raise Value(file, line, key, None).error("a YAML value", str(error)) from None
        except (LookupError, AttributeError):
            # PyYAML itself fails so, for example for !!bool "x".
            raise Value(file, line, key, None).error("a YAML value", f"text that is not a {node.tag}") from None
    return Value(file, line, key, data)


def _items(loader: yaml.SafeLoader, node: yaml.MappingNode, file: str, key: str) -> Iterator[tuple[str, Value]]:
    seen: set[str] = set()
    for name_node, value_node in node.value:
        name = str(name_node.value)
        path = f"{key}.{name}" if key else name
        if name in seen:
            raise Value(file, name_node.start_mark.line + 1, path, None).error("each key once", "it a second time")
        seen.add(name)
        yield name, _value(loader, value_node, file, path)

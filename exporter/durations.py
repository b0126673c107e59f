"""Durations as Prometheus writes them: `500ms`, `10s`, `1h30m`."""

import re

from exporter.yamlfile import Value

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_DURATION_UNITS = (86400.0, 3600.0, 60.0, 1.0, 0.001)


def parse_duration(text: str) -> float:
    """Return seconds for a duration as Prometheus writes it (`500ms`, `10s`, `1h30m`). Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"not a duration: {text!r}")
    return sum(int(part) * unit for part, unit in zip(match.groups(), _DURATION_UNITS, strict=True) if part)


def read_duration(value: Value) -> float:
    """Return the seconds that stand there. Raises ConfigError."""
    expected = "a duration such as 500ms, 10s or 1h, longer than 0"
    try:
        seconds = parse_duration(value.string(expected))
    except ValueError:
        raise value.error(expected) from None
    if seconds <= 0:
        raise value.error(expected)
    return seconds

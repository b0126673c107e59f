"""Structured logs on standard error: one event per line, as logfmt, like Prometheus, or JSON."""

import json
import logging
import sys
import traceback
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
FORMATS = ("logfmt", "json")


class Logger:
    """
    Writes events: `log.info("listening", addresses=[...])`, with keyword arguments as fields.

    A field that is None is left out.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, message: str, **fields: object) -> None:
        self._write(logging.DEBUG, message, fields)

    def info(self, message: str, **fields: object) -> None:
        self._write(logging.INFO, message, fields)

    def warning(self, message: str, **fields: object) -> None:
        self._write(logging.WARNING, message, fields)

    def error(self, message: str, **fields: object) -> None:
        self._write(logging.ERROR, message, fields)

    def exception(self, message: str, **fields: object) -> None:
        """Log an error with the traceback of the exception that is being handled."""
        self._write(logging.ERROR, message, fields, sys.exc_info()[1])

    def critical(self, message: str, *, exc: BaseException | None, **fields: object) -> None:
        """Log the exception that ended a task which must not end, with its traceback."""
        self._write(logging.CRITICAL, message, fields, exc)

    def log(self, level: int, message: str, **fields: object) -> None:
        self._write(level, message, fields)

    def _write(
        self, level: int, message: str, fields: Mapping[str, object], error: BaseException | None = None
    ) -> None:
        present = {name: value for name, value in fields.items() if value is not None}
        self._logger.log(level, message, exc_info=error, extra={"fields": present}, stacklevel=3)


def get_logger(name: str) -> Logger:
    """Return the logger of a module; pass its __name__."""
    return Logger(name)


def printable(text: str) -> str:
    """Return the text with escapes for characters that are invisible or that a terminal may act on."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def print_warnings(warnings: Iterable[object]) -> None:
    """Print warnings of a command that ends by itself to standard error, a line each."""
    for warning in warnings:
        print(printable(f"warning: {warning}"), file=sys.stderr)


def setup(level: str, form: str) -> None:
    """Write records of all loggers, from this level on, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Logfmt())
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)
    # psycopg warns of every lost connection; our own code logs it with the node's name.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    # It logs each rule that it tries: 400 lines at debug for one view of a runbook.
    logging.getLogger("markdown_it").setLevel(max(LEVELS[level], logging.INFO))


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": "warn" if record.levelno == logging.WARNING else record.levelname.lower(),
        "msg": record.getMessage(),
        "logger": record.name,
    }
    fields.update(getattr(record, "fields", {}))
    if record.exc_info:
        fields["exception"] = "".join(traceback.format_exception(*record.exc_info)).strip()
    return fields


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _json(_fields(record))


class _Logfmt(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_logfmt_value(value)}" for key, value in _fields(record).items())


def _logfmt_value(value: object) -> str:
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, float):
        text = f"{value:.3f}"
    elif isinstance(value, list | tuple):
        text = ",".join(str(item) for item in value)
    else:
        text = str(value)
    plain = text and text.isprintable() and not any(c in text for c in ' ="\\')
    return text if plain else _json(text)


def _json(value: object) -> str:
    """Return JSON with escapes for C1 controls and line separators, which json.dumps() does not escape."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)

"""Keeps requests that are not HTTP out of the log: aiohttp writes a traceback for each, before any authentication."""

import logging

from aiohttp.http_exceptions import HttpProcessingError

MAX_ERROR_LENGTH = 100


class MalformedRequestFilter(logging.Filter):
    """Turns aiohttp's record of a malformed request into one short line at level debug."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        if not logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
            return False
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        record.msg, record.args = "malformed request", ()
        record.exc_info = record.exc_text = None
        record.fields = {"error": str(error).partition("\n")[0][:MAX_ERROR_LENGTH]}
        return True


def install() -> None:
    """Filter the records of aiohttp's server; a second call changes nothing."""
    logger = logging.getLogger("aiohttp.server")
    if not any(isinstance(installed, MalformedRequestFilter) for installed in logger.filters):
        logger.addFilter(MalformedRequestFilter())

"""The configuration in force: loaded at start, and again on SIGHUP or POST /-/reload. A bad file changes nothing."""

import logging
import time
from collections.abc import Callable

from exporter.config import Config
from exporter.log import event
from exporter.yamlfile import ConfigError

_log = logging.getLogger(__name__)


class Configuration:
    """What was loaded last, and how the last attempt ended."""

    def __init__(self, read: Callable[[], Config], config: Config) -> None:
        self._read = read
        self._apply: list[Callable[[Config], None]] = []
        self.config = config
        self.last_ok = True
        self.loaded_at = time.time()
        """Unix time of the last load that worked."""

    def on_change(self, apply: Callable[[Config], None]) -> None:
        """Call this with each new configuration."""
        self._apply.append(apply)

    def reload(self) -> str | None:
        """Load anew; return None, or the error that kept the old configuration in force."""
        try:
            config = self._read()
        except ConfigError as error:
            self.last_ok = False
            event(_log, logging.ERROR, "reload failed, the old configuration stays in force", error=str(error))
            return str(error)
        self.config = config
        self.last_ok = True
        self.loaded_at = time.time()
        for apply in self._apply:
            apply(config)
        event(_log, logging.INFO, "configuration reloaded", clusters=len(config.clusters))
        return None

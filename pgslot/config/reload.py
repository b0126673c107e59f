"""The configuration in force: loaded at start, and again on SIGHUP or POST /-/reload. A bad file changes nothing."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import get_logger
from pgslot.config.model import Config
from pgslot.task_supervisor import TaskSupervisor

log = get_logger(__name__)


class ConfigReloader:
    """The configuration that was loaded last, and how the last reload ended."""

    def __init__(self, read: Callable[[], Config], config: Config) -> None:
        self._read = read
        self._listeners: list[Callable[[Config], None]] = []
        self._lock = asyncio.Lock()
        # A thread of its own: other work must not wait for a large file, nor a reload for other work.
        self._reader = ThreadPoolExecutor(1, "read the configuration")
        self._tasks = TaskSupervisor()
        self.config = config
        self.last_error: str | None = None
        """Why the last reload failed; None: the last load succeeded."""
        self.loaded_at = time.time()
        """Unix time of the last load that succeeded."""

    @property
    def last_ok(self) -> bool:
        """Whether the last load succeeded."""
        return self.last_error is None

    def on_change(self, listener: Callable[[Config], None]) -> None:
        """Call `listener` with every new configuration."""
        self._listeners.append(listener)

    async def reload(self) -> str | None:
        """
        Load the file again; return None, or the error that kept the old configuration in force.

        The file is read in a thread: 10,000 nodes take seconds, during which the event loop goes on.
        """
        async with self._lock:
            try:
                self.apply(await asyncio.get_running_loop().run_in_executor(self._reader, self._read))
            except ConfigError as error:
                return self._failed(error)
            except Exception as error:
                log.exception("internal error while loading the configuration")
                return self._failed(ConfigError(f"internal error: {error!r}"))
            return None

    def schedule_reload(self) -> None:
        """Start reload() from a signal handler; the log shows how it ends."""
        self._tasks.start(self.reload(), "reload of the configuration")

    def apply(self, config: Config) -> None:
        """Put this configuration in force, and hand it to the listeners."""
        self.config = config
        self.last_error = None
        self.loaded_at = time.time()
        for listener in self._listeners:
            listener(config)
        log.info("configuration reloaded", clusters=len(config.clusters))

    def _failed(self, error: ConfigError) -> str:
        self.last_error = str(error)
        log.error("reload failed, the old configuration stays in force", error=str(error))
        return self.last_error

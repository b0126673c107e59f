"""The configuration in force: loaded at start, and again on SIGHUP or POST /-/reload. A bad file changes nothing."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import get_logger
from pgslot.config.model import Config

log = get_logger(__name__)


class ConfigReloader:
    """What was loaded last, and how the last attempt ended."""

    def __init__(self, read: Callable[[], Config], config: Config) -> None:
        self._read = read
        self._apply: list[Callable[[Config], None]] = []
        self._one = asyncio.Lock()
        self._reader = ThreadPoolExecutor(1, "read the configuration")
        """Its own: nothing else may have to wait for a large file, nor this for anything else."""
        self._tasks: set[asyncio.Task[str | None]] = set()
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
            return self._failed(error)
        self._loaded(config)
        return None

    async def reload_async(self) -> str | None:
        """Do as reload() does, reading in a thread: that of 10,000 nodes takes seconds, in which the loop goes on."""
        async with self._one:
            try:
                self._loaded(await asyncio.get_running_loop().run_in_executor(self._reader, self._read))
            except ConfigError as error:
                return self._failed(error)
            except Exception as error:
                log.exception("a defect in loading the configuration")
                return self._failed(ConfigError(f"a defect of this program: {error!r}"))
            return None

    def schedule_reload(self) -> None:
        """Begin reload_aside(), from a signal's handler; how it ends is in the log."""
        task = asyncio.get_running_loop().create_task(self.reload_async())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _failed(self, error: ConfigError) -> str:
        self.last_ok = False
        log.error("reload failed, the old configuration stays in force", error=str(error))
        return str(error)

    def _loaded(self, config: Config) -> None:
        self.config = config
        self.last_ok = True
        self.loaded_at = time.time()
        for apply in self._apply:
            apply(config)
        log.info("configuration reloaded", clusters=len(config.clusters))

"""
Runs a program, and appends its number of asyncio tasks to a file every second.

    python measured.py FILE MODULE ARGUMENT...
"""

import asyncio
import runpy
import sys
import threading
import time
from pathlib import Path

_loops: list[asyncio.AbstractEventLoop] = []


class _Policy(asyncio.DefaultEventLoopPolicy):
    """Remembers the event loops that it makes."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        loop = super().new_event_loop()
        _loops.append(loop)
        return loop


def _write_task_counts(file: Path) -> None:
    with file.open("w", encoding="ascii", buffering=1) as output:
        while True:
            time.sleep(1)
            try:
                count = sum(len(asyncio.all_tasks(loop)) for loop in _loops if loop.is_running())
            except RuntimeError:  # all_tasks() gives up if tasks come and go too fast
                continue
            output.write(f"{count}\n")


def main() -> None:
    """Run the module as the main program."""
    file, module, *arguments = sys.argv[1:]
    asyncio.set_event_loop_policy(_Policy())
    threading.Thread(target=_write_task_counts, args=(Path(file),), daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

"""Stops a kept stack: `python -m tests.support.servers.stop FOLDER`."""

import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

from tests.support.servers.processes import wait_for


def stop(folder: Path) -> None:
    """End the processes in the folder's `pids` file, by id, and remove the folder."""
    for line in (folder / "pids").read_text("utf-8").splitlines():
        pid, name = line.split()
        command = Path(f"/proc/{pid}/cmdline")
        # The pid may belong to another process by now.
        if command.exists() and str(folder).encode() in command.read_bytes():
            os.kill(int(pid), signal.SIGINT)
            wait_for(partial(_gone, command), f"{name} ends")
    shutil.rmtree(folder)


def _gone(command: Path) -> bool:
    # A zombie process has an empty command line.
    return not command.exists() or not command.read_bytes()


if __name__ == "__main__":
    stop(Path(sys.argv[1]))

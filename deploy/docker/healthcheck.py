"""
The image's HEALTHCHECK: asks the program that runs in this container whether it is healthy.

Which one that is, and where it listens, stands in the command line of process 1. Ends with 1 if it does not answer or
has failed. It speaks plain HTTP: start a container with --web.config.file and TLS with --no-healthcheck.
"""

import http.client
import re
import sys
from pathlib import Path

PORTS = {"pg-slot-exporter": 9877, "pg-slot-healer": 9878}
TIMEOUT = 4.0
"""Seconds; Docker itself waits for five."""


def address(command: list[str]) -> tuple[str, int]:
    """Return host and port for a command line that runs one of the programs. Raises StopIteration for any other."""
    names = {Path(argument).name for argument in command if not argument.startswith("-")}
    port = next(port for program, port in PORTS.items() if program in names)
    given = re.search(r"--web\.listen-address[= ](\S*):(\d+)", " ".join(command))
    host = given[1].strip("[]") if given else ""
    anywhere = host in ("", "0.0.0.0", "::")  # noqa: S104 - recognised, not listened on
    return "127.0.0.1" if anywhere else host, int(given[2]) if given else port


def main(process: str = "1") -> int:
    """Return the exit code for the program with this process id."""
    command = Path(f"/proc/{process}/cmdline").read_text("utf-8").split("\0")
    connection = http.client.HTTPConnection(*address(command), timeout=TIMEOUT)
    try:
        connection.request("GET", "/-/healthy")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer: {error}")
        return 1
    print(f"HTTP status {status}")
    # It answers 401 where --web.config.file has users: that it does is health enough.
    return 0 if status < http.HTTPStatus.INTERNAL_SERVER_ERROR else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

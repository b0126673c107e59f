"""Files that are made from others: written, or only looked at."""

import sys
from collections.abc import Mapping
from pathlib import Path


def put(wanted: Mapping[Path, str], source: str, *, check: bool, target: str = "dashboards") -> int:
    """
    Write the files; with `check` only name those that are out of step with their source. Return the exit code.

    `target` is make's, which writes them.
    """
    if not check:
        for file, text in wanted.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
        return 0
    out_of_step = [file for file, text in wanted.items() if not file.exists() or file.read_text("utf-8") != text]
    for file in out_of_step:
        print(f"{file.name} is out of step with {source}: run make {target}", file=sys.stderr)
    return 1 if out_of_step else 0

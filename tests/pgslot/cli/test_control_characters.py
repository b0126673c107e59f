"""Control characters in names reach neither the terminal nor the log."""

import subprocess
import sys
from pathlib import Path

from pgslot.cli.logging import printable

HOSTILE_NAME = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"


def test_printable_text_has_no_control_characters() -> None:
    assert printable("plain ä €") == "plain ä €"
    shown = printable(HOSTILE_NAME)
    assert shown.isprintable()
    assert shown == "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202e"


def test_log_has_no_raw_control_characters(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pgslot.cli import logging as log\n"
        "log.setup('info', sys.argv[1])\n"
        f"log.get_logger('x').info('seen', slot={HOSTILE_NAME!r}, at=[{HOSTILE_NAME!r}])"
    )
    for form in ("logfmt", "json"):
        completed = subprocess.run(
            [sys.executable, "-c", code, form], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
        )
        [line] = completed.stderr.splitlines()
        assert line.isprintable()
        assert "owned" in line

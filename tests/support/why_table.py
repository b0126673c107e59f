"""The table of docs/how-to/why-it-did-not-act.md: what `pg-slot-healer why` says, and what that means."""

import re

from tests.support.paths import ROOT

PAGE = ROOT / "docs/how-to/why-it-did-not-act.md"
_TABLES = [
    tuple(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE))
    for table in PAGE.read_text("utf-8").split("| It says |")[1:]
]
"""The first cells of both tables: words that `why` prints."""
ROWS, PATH_ROWS = _TABLES
"""Of the healer's own answer, and of what Prometheus and Alertmanager add to it."""

"""The table of docs/how-to/why-it-did-not-act.md: what `pg-slot-healer why` says, and what that means."""

import re

from tests.support.paths import ROOT

PAGE = ROOT / "docs/how-to/why-it-did-not-act.md"
ROWS = tuple(re.findall(r"^\| `([^`]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE))
"""The first cells: words that `why` prints."""

"""The alerting rules as shipped, with runbook links to a base URL of the user's choice."""

from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from pgslot.cli.errors import ConfigError

SHIPPED_BASE = "http://localhost:9877/runbooks"
"""Base URL of the runbooks in the file: the exporter's own pages."""
FILE = "pgslot.rules.yml"


def alerting_rules(runbook_base: str = SHIPPED_BASE) -> str:
    """Return the rule file, in which every runbook_url is `runbook_base`/ALERTNAME. Raises ConfigError."""
    base = runbook_base.rstrip("/")
    url = urlsplit(base)
    plain = not any(character.isspace() or character in "'\"{}#?" for character in base)
    if url.scheme not in ("http", "https") or not url.netloc or not plain:
        raise ConfigError(
            "--runbook-base: expected a URL such as https://pgslot.example.com/runbooks, without query and fragment,"
            f" found {runbook_base!r}"
        )
    return _shipped().read_text("utf-8").replace(f"{SHIPPED_BASE}/", f"{base}/")


def _shipped() -> Path:
    """Return the path of the file: in the installed package, or in alerts/ of a checkout."""
    package = Path(str(files("pgslot")))
    installed = package / FILE
    return installed if installed.is_file() else package.parent / "alerts" / FILE

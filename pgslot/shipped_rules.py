"""The alerting rules as they are shipped, with links to runbooks that the user's people can open."""

from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from pgslot.cli.errors import ConfigError

SHIPPED_BASE = "http://localhost:9877/runbooks"
FILE = "pgslot.rules.yml"


def alerting_rules(runbook_base: str = SHIPPED_BASE) -> str:
    """Return the rule file; each runbook_url is this base, a slash and the alert's name. Raises ConfigError."""
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
    """Where the file is: in an installed package, or beside the code in a checkout."""
    here = Path(str(files("pgslot")))
    installed = here / FILE
    return installed if installed.is_file() else here.parent / "alerts" / FILE

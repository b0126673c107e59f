"""The alerts' runbooks, Markdown files, as HTML pages."""

from importlib.resources import files
from pathlib import Path

from markdown_it import MarkdownIt

from exporter.html import page

# Raw HTML in a runbook is shown as text: the files may be a user's own.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


def runbook_names() -> list[str]:
    """Return the names of the alerts that have a runbook."""
    return sorted({file.stem for folder in _folders() if folder.is_dir() for file in folder.glob("*.md")})


def runbook(alert: str) -> str | None:
    """Return the page of an alert's runbook; None if there is none."""
    for folder in _folders():
        file = folder / f"{alert}.md"
        if file.is_file():
            return page(alert, _MARKDOWN.render(file.read_text("utf-8")))
    return None


def _folders() -> list[Path]:
    """Return where runbooks are: in an installed package, or next to the code in a checkout."""
    here = Path(str(files("exporter")))
    return [here / "runbooks", here.parent / "alerts" / "runbooks"]

"""The alerts' runbooks, Markdown files, as HTML pages."""

from collections.abc import MutableMapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

from pgslot.pages.frame import FOCUSABLE, SCROLL, page

PLACES = {
    "sql node": "SQL, on the node of the alert",
    "sql primary": "SQL, on the primary",
    "sql standby": "SQL, on the standby of the alert",
    "sql healer": "SQL, on the primary, connected as the healer",
    "promql": "PromQL, in Prometheus",
    "sh": "Shell",
}
"""Where a fenced block of a runbook is to be run, by its info string; a block without one is output."""


def runbook_names() -> list[str]:
    """Return the names of the alerts that have a runbook."""
    return sorted({file.stem for folder in _folders() if folder.is_dir() for file in folder.glob("*.md")})


def runbook(alert: str) -> str | None:
    """Return the page of an alert's runbook; None if there is none."""
    for folder in _folders():
        file = folder / f"{alert}.md"
        if file.is_file():
            back = '<nav><a href="../">pg-slot-exporter</a> / <a href="../#runbooks">all runbooks</a></nav>'
            return page(alert, f"{back}\n{_MARKDOWN.render(file.read_text('utf-8'))}")
    return None


def _folders() -> list[Path]:
    """Return where runbooks are: in an installed package, or next to the code in a checkout."""
    here = Path(str(files("exporter")))
    return [here / "runbooks", here.parent / "alerts" / "runbooks"]


def _fence(
    _renderer: RendererHTML, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: MutableMapping[str, Any]
) -> str:
    """Render a fenced block below the place where it is to be run."""
    info, text = tokens[index].info.strip(), escape(tokens[index].content)
    place = PLACES.get(info, info)
    if not place:
        return f'<pre class="output" {FOCUSABLE}><code>{text}</code></pre>\n'
    return f'<p class="place">{escape(place)}</p>\n<pre {FOCUSABLE}><code>{text}</code></pre>\n'


def _scrolling_table(_renderer: RendererHTML, tokens: Sequence[Token], index: int, *_: Any) -> str:
    """Render the tags of a table, which scrolls by itself where the screen is too narrow for it."""
    return f"{SCROLL}<table>\n" if tokens[index].nesting == 1 else "</table></div>\n"


def _markdown() -> MarkdownIt:
    # Raw HTML in a runbook is shown as text: the files may be a user's own.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.add_render_rule("fence", _fence)
    for tag in ("table_open", "table_close"):
        markdown.add_render_rule(tag, _scrolling_table)
    return markdown


_MARKDOWN = _markdown()

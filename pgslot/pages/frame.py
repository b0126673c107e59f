"""The frame of every page: templates, stylesheet and script, and the headers that let a browser run nothing else."""

import base64
import hashlib
from importlib.resources import files

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

REFRESH_SECONDS = 5
"""A page that refreshes is fetched again after this time, while somebody sees it."""

FOCUSABLE = Markup('tabindex="0"')
"""For a block that may scroll: without it, only a mouse or a finger can scroll it."""
SCROLL = Markup('<div class="scroll" {} role="region" aria-label="Table">').format(FOCUSABLE)


def environment(program: str | None = None) -> Environment:
    """Return the templates of a program's package, which extend `frame.html`, with all values escaped."""
    shared = PackageLoader("pgslot.pages")
    loaders = [shared] if program is None else [PackageLoader(program), shared]
    result = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    result.globals.update(style=STYLE, script=SCRIPT, scroll=SCROLL, refresh_seconds=None, wide=False)
    return result


def page(title: str, body: str) -> str:
    """Return a page that does not refresh; `title` is text, `body` is HTML."""
    return _ENVIRONMENT.get_template("plain.html").render(title=title, body=Markup(body))  # noqa: S704 - it is HTML


def _read(name: str) -> Markup:
    return Markup(files("pgslot.pages").joinpath(name).read_text("utf-8"))  # noqa: S704 - our own file


def _hash(text: str) -> str:
    """Return a source of a Content-Security-Policy: this text and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


STYLE, SCRIPT = _read("style.css"), _read("refresh.js")
_ENVIRONMENT = environment()

REFRESHING_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)};"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
"""Of a page that refreshes: its own script and style run, and the script may ask only this server."""

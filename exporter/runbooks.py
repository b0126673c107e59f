"""The pages for people: the landing page, and the runbooks as HTML."""

from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlencode

from markdown_it import MarkdownIt

from pgslot import __version__
from pgslot.config.model import Config

_STYLE = """
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1rem auto; padding: 0 1rem }
pre { overflow-x: auto; padding: .6rem; border: 1px solid #8888; border-radius: .3rem }
table { border-collapse: collapse } td, th { border: 1px solid #8888; padding: .2rem .6rem; text-align: left }
"""

# Raw HTML in a runbook is shown as text: the files may be a user's own.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


def runbook_names() -> list[str]:
    """Return the alerts that have a runbook."""
    return sorted({page.stem for folder in _folders() if folder.is_dir() for page in folder.glob("*.md")})


def runbook(alert: str) -> str | None:
    """Return the page of an alert's runbook; None when there is none."""
    for folder in _folders():
        page = folder / f"{alert}.md"
        if page.is_file():
            return _page(alert, _MARKDOWN.render(page.read_text("utf-8")))
    return None


def landing(config: Config, *, lifecycle: bool) -> str:
    """Return the page at `/`."""
    nodes = "".join(
        f"<tr><td>{escape(cluster.name)}<td>{escape(node.name)}"
        f'<td><a href="/probe?{escape(urlencode({"cluster": cluster.name, "node": node.name}))}">probe</a></tr>'
        for cluster in config.clusters
        for node in cluster.nodes
    )
    runbooks = "".join(f'<li><a href="/runbooks/{name}">{name}</a></li>' for name in runbook_names())
    reload = "<li>POST /-/reload: load the configuration anew, as SIGHUP does</li>" if lifecycle else ""
    return _page(
        "pg-slot-exporter",
        f"""<h1>pg-slot-exporter {escape(__version__)}</h1>
<p>Shows why PostgreSQL's logical replication slots wait or retain WAL.</p>
<ul><li><a href="/metrics">/metrics</a>: itself and all nodes</li>
<li><a href="/metrics?collect[]=creations">/metrics?collect[]=creations</a>: slots in creation alone</li>
<li><a href="/sd">/sd</a>: one target a node, for Prometheus' http_sd_configs</li>
<li><a href="/-/healthy">/-/healthy</a>, <a href="/-/ready">/-/ready</a></li>{reload}</ul>
<h2>Nodes</h2><table><tr><th>Cluster<th>Node<th></tr>{nodes}</table>
<h2>Runbooks</h2><ul>{runbooks}</ul>""",
    )


def _folders() -> list[Path]:
    """Where runbooks are: in an installed package, or beside the code in a checkout."""
    here = Path(str(files("exporter")))
    return [here / "runbooks", here.parent / "alerts" / "runbooks"]


def _page(title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>
<body>{body}</body></html>
"""

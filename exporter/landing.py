"""The landing page: links to the endpoints, the nodes with their state, and the runbooks."""

import re
from collections.abc import Callable
from functools import cache
from html import escape
from typing import Any, NamedTuple
from urllib.parse import urlencode

import yaml

from exporter.runbooks import runbook_names
from pgslot import __version__
from pgslot.alerting_rules import alerting_rules
from pgslot.config.model import Config, Node
from pgslot.pages.frame import SCROLL, page
from pgslot.snapshot.model import NodeSnapshot, QueryStatus

LastSnapshot = Callable[[str, str], tuple[float, NodeSnapshot] | None]
"""Returns the last snapshot of a cluster's node, also a failed one, and its age in seconds; None: not asked yet."""
SEVERITIES = ("critical", "warning", "info", "other")
"""In the order of the page; `other`: runbooks without a shipped alert."""


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, which takes a tenth of the time, where it is there."""


class AlertSummary(NamedTuple):
    """What the list of runbooks says of an alert."""

    severity: str
    summary: str


def landing(config: Config, last: LastSnapshot, *, lifecycle: bool) -> str:
    """Return the page at `/`; it asks no server, and names the reload endpoint only if `lifecycle` enables it."""
    nodes = "".join(_node_row(node, last) for cluster in config.clusters for node in cluster.nodes)
    reload = "<li>POST /-/reload: reload the configuration, like SIGHUP</li>" if lifecycle else ""
    return page(
        "pg-slot-exporter",
        f"""<h1>pg-slot-exporter {escape(__version__)}</h1>
<p>Shows why PostgreSQL's logical replication slots wait or retain WAL.</p>
<ul><li><a href="/metrics">/metrics</a>: metrics of the exporter and of all nodes</li>
<li><a href="/metrics?collect[]=creations">/metrics?collect[]=creations</a>: only slots in creation</li>
<li><a href="/sd">/sd</a>: the nodes as targets, for Prometheus' http_sd_configs</li>
<li><a href="/-/healthy">/-/healthy</a>, <a href="/-/ready">/-/ready</a></li>{reload}</ul>
<h2>Nodes</h2><p class="quiet">As of the last complete scrape; this page queries no server.</p>
{SCROLL}<table><tr><th>Cluster<th>Node<th>State<th>Endpoint</tr>{nodes}</table></div>
<h2 id="runbooks">Runbooks</h2>
{_runbooks()}""",
    )


def _node_row(node: Node, last: LastSnapshot) -> str:
    probe = escape(urlencode({"cluster": node.cluster, "node": node.name}))
    return (
        f"<tr><td>{escape(node.cluster)}<td>{escape(node.name)}<td>{_state(last(node.cluster, node.name))}"
        f'<td><a href="/probe?{probe}">probe</a></tr>'
    )


def _state(last: tuple[float, NodeSnapshot] | None) -> str:
    if last is None:
        return '<span class="quiet">not scraped yet</span>'
    age, snapshot = last
    when = f'<span class="quiet">{age:.0f} s ago</span>'
    failed = snapshot.failures
    if snapshot.facts is None:
        return f'<span class="bad">{escape(failed.get("node", QueryStatus.UNREACHABLE))}</span> {when}'
    role = f"{'primary' if snapshot.is_primary else 'standby'}, PostgreSQL {escape(snapshot.facts.version)}"
    problems = escape(", ".join(f"{query}: {status}" for query, status in failed.items()))
    return f'{role} <span class="bad">{problems}</span> {when}' if failed else f"{role} {when}"


def _runbooks() -> str:
    """List the runbooks by the severity of their alerts, each with what its alert says."""
    summaries, names = alert_summaries(), runbook_names()
    unshipped = AlertSummary("other", "")
    lists = []
    for severity in SEVERITIES:
        items = "".join(
            f'<li><a href="/runbooks/{name}">{name}</a>: {escape(summaries.get(name, unshipped).summary)}</li>'
            for name in names
            if summaries.get(name, unshipped).severity == severity
        )
        if items:
            lists.append(f"<h3>{severity.capitalize()}</h3><ul>{items}</ul>")
    return "".join(lists)


@cache
def alert_summaries() -> dict[str, AlertSummary]:
    """Return severity and summary of each shipped alert, by name; labels stand for their values."""
    rules: Any = yaml.load(alerting_rules(), Loader=_LOADER)  # noqa: S506 - it is a safe one
    return {
        rule["alert"]: AlertSummary(rule["labels"]["severity"], _without_templates(rule["annotations"]["summary"]))
        for group in rules["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


def _without_templates(text: str) -> str:
    """Return the text with the name of each label in place of its value, and without other template code."""
    return " ".join(re.sub(r"{{.*?}}", "", re.sub(r"{{-? *\$labels\.(\w+) *-?}}", r"<\1>", text)).split())

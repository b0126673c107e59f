"""The landing page: links to the endpoints, the nodes and the runbooks."""

from html import escape
from urllib.parse import urlencode

from exporter.html import page
from exporter.runbooks import runbook_names
from pgslot import __version__
from pgslot.config.model import Config


def landing(config: Config, *, lifecycle: bool) -> str:
    """Return the page at `/`; it names the reload endpoint only if `lifecycle` enables it."""
    nodes = "".join(
        f"<tr><td>{escape(cluster.name)}<td>{escape(node.name)}"
        f'<td><a href="/probe?{escape(urlencode({"cluster": cluster.name, "node": node.name}))}">probe</a></tr>'
        for cluster in config.clusters
        for node in cluster.nodes
    )
    runbooks = "".join(f'<li><a href="/runbooks/{name}">{name}</a></li>' for name in runbook_names())
    reload = "<li>POST /-/reload: load the configuration anew, as SIGHUP does</li>" if lifecycle else ""
    return page(
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

"""What the exporter's pages are made from, without a server."""

from exporter.latest_look import ClusterLook
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerSettings, Node
from pgslot.snapshot.model import NodeSnapshot
from pgslot.status.assessment import slot_statuses
from tests.support.builders.snapshots import cluster

CONFIG = Config((Cluster("c", (Node("c", "n", Conninfo("")),), None),), HealerSettings())
AGE = 3.2


def look_at(*nodes: NodeSnapshot) -> ClusterLook:
    """Return these nodes as the pages show them, some seconds after the snapshot."""
    snapshot = cluster(*nodes)
    return ClusterLook(snapshot, {node.node: AGE for node in nodes}, slot_statuses(snapshot))

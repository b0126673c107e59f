"""What could be seen of each node, and what shows the rest: pure functions of a cluster's snapshot."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot, QueryStatus
from pgslot.snapshot.privileges import grant, grant_listing
from pgslot.snapshot.queries import WAL_DIRECTORY, WAL_QUERIES

_OPTIONAL = frozenset(query.name for query in WAL_QUERIES)
"""Queries about the WAL directory: without them no cause is missing."""

UNANSWERED = {
    QueryStatus.TIMEOUT: "did not answer in time",
    QueryStatus.UNREACHABLE: "cannot be reached",
    QueryStatus.LOGIN_FAILED: "refused the login",
    QueryStatus.WRONG_CLUSTER: "belongs to another cluster than the other nodes",
    QueryStatus.UNSUPPORTED: "is older than the oldest supported version of PostgreSQL",
    QueryStatus.PERMISSION_DENIED: "refused the query",
    QueryStatus.ERROR: "answered with an error",
}


@dataclass(frozen=True, slots=True)
class Hidden:
    """Something that the role may not see."""

    what: str
    statement: str
    """The GRANT that shows it, for a superuser on the primary."""
    needed: bool
    """A cause may be missing without it."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node."""

    cluster: str
    node: str
    role: str | None
    """`primary` or `standby`. None: unknown."""
    version: str | None
    """Of PostgreSQL. None: unknown."""
    observed_seconds: float
    """Since the first snapshot by this program; 0: this is the first one."""
    failures: Mapping[str, QueryStatus]
    """Queries that failed, by name; `node` alone if the server could not be asked at all."""
    error: str = ""
    """Why it could not be asked, in the words of the driver or the server."""
    hidden: tuple[Hidden, ...] = ()
    refused: Mapping[str, QueryStatus] = field(default_factory=dict)
    """Functions that the server, a managed service, refuses to run, by name: what only they show is unknown."""

    @property
    def answered(self) -> bool:
        return self.role is not None

    @property
    def complete(self) -> bool:
        """Whether everything was seen that a cause may depend on."""
        return not self.failures.keys() - _OPTIONAL


def node_statuses(cluster: ClusterSnapshot) -> tuple[NodeStatus, ...]:
    """Return the status of every node, in the order of the configuration."""
    return tuple(_of_node(node) for node in cluster.nodes)


def rival_primaries(cluster: ClusterSnapshot) -> tuple[str, ...]:
    """Return the nodes that all say that they are the primary; empty: one at most does."""
    primaries = tuple(node.node for node in cluster.nodes if node.is_primary)
    return primaries if len(primaries) > 1 else ()


def _of_node(node: NodeSnapshot) -> NodeStatus:
    facts = node.facts
    samples = node.history.samples
    return NodeStatus(
        cluster=node.cluster,
        node=node.node,
        role=None if facts is None else "standby" if facts.in_recovery else "primary",
        version=None if facts is None else facts.version,
        observed_seconds=node.history.at - samples[0].at if samples else 0.0,
        failures=node.failures,
        error=node.error,
        hidden=tuple(_hidden(node)),
        refused=node.refused,
    )


def _hidden(node: NodeSnapshot) -> Iterator[Hidden]:
    if node.facts is None:
        return
    role = node.facts.role
    if not node.facts.reads_all_stats:
        what = "what sessions wait for, who blocks them, and which transactions are open"
        yield Hidden(what, grant(role), needed=True)
    elif node.standby is not None and node.standby.streaming_configured is None:
        yield Hidden("where the standby gets its WAL from (primary_conninfo)", grant(role), needed=True)
    if node.all_statuses.get(WAL_DIRECTORY.name) is QueryStatus.PERMISSION_DENIED:
        what = "the files of the WAL directory, and so how much an action frees"
        yield Hidden(what, grant_listing(role), needed=False)

"""Whether the creation of a logical slot would work on a node now, and how long it would wait: a pure function."""

from collections.abc import Iterator

from pgslot.diagnosis.preflight_consumer import consumer_lines, later_lines
from pgslot.diagnosis.preflight_model import Line, Observation, Preflight, Status
from pgslot.diagnosis.preflight_server import server_lines
from pgslot.diagnosis.preflight_wait import wait_lines
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot, QueryStatus
from pgslot.snapshot.preflight import SlotRequest
from pgslot.snapshot.preflight_rows import PreflightServer

_UNSEEN = {
    QueryStatus.UNREACHABLE: "it did not answer",
    QueryStatus.LOGIN_FAILED: "it refused the login",
    QueryStatus.WRONG_CLUSTER: "it belongs to another cluster than the other hosts",
    QueryStatus.TIMEOUT: "it did not answer in time",
}


def preflight(observed: Observation) -> Preflight:
    """Judge what was observed."""
    request, server = observed.request, observed.facts.server
    seen = server if isinstance(server, PreflightServer) else None
    return Preflight(
        node=observed.node,
        database=request.database if seen is None else seen.datname,
        user=request.user if seen is None else seen.usename,
        plugin=request.plugin,
        publication=request.publication,
        lines=tuple(_lines(observed)),
    )


def without_node(cluster: ClusterSnapshot, request: SlotRequest) -> Preflight:
    """Return what to say if no node was named and no node is the only primary."""
    failed = [f"{node.node}: {_reason(node, None)}" for node in cluster.nodes if not node.up]
    primaries = [node.node for node in cluster.nodes if node.is_primary]
    text = f"{' and '.join(primaries)} are primaries" if primaries else "no host is a primary"
    text = f"{text}: name the node with --on" + (f" ({'; '.join(failed)})" if failed else "")
    line = Line("server", Status.UNKNOWN, text)
    return Preflight("", request.database, request.user, request.plugin, request.publication, (line,))


def _lines(observed: Observation) -> Iterator[Line]:
    node, server = observed.target, observed.facts.server
    if node is None or node.facts is None or isinstance(server, QueryStatus):
        yield Line("server", Status.UNKNOWN, f"{observed.node} could not be asked: {_reason(node, server)}")
        return
    yield from server_lines(observed, node, node.facts, server)
    yield from wait_lines(observed, node, node.facts, server)
    yield from consumer_lines(observed, server, node.facts.major)
    yield from later_lines(observed, node, node.facts)


def _reason(node: NodeSnapshot | None, server: object) -> str:
    failed = None if node is None else node.failures.get("node")
    status = failed if failed is not None else server
    return _UNSEEN.get(status, f"{status}") if isinstance(status, QueryStatus) else "unknown"

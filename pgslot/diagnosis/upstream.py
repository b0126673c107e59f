"""Through which standbys a standby gets its WAL: pure functions of what a cluster's nodes show."""

from collections.abc import Collection, Sequence

from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import Standby, WalSender


def topmost_standby(node: NodeSnapshot, cluster: ClusterSnapshot) -> NodeSnapshot:
    """
    Return the standby that hands this standby its WAL and itself streams from no standby, as far as that is certain.

    It is the standby itself unless it streams from a configured standby. WAL reaches all standbys below the topmost one
    only as long as that one receives WAL, although their own receivers go on streaming when it does not.
    """
    above = [node]
    while (upstream := upstream_standby(above[-1], cluster)) is not None and upstream not in above:
        above.append(upstream)
    return above[-1]


def streams_from_standby(nodes: Sequence[NodeSnapshot], names: Collection[str]) -> bool:
    """Return whether a node of these names streams WAL, and certainly not from the primary among `nodes`."""
    senders = [sender for node in nodes if node.is_primary for sender in node.senders or ()]
    primary_answered = any(node.is_primary and node.senders is not None for node in nodes)
    return primary_answered and any(
        node.standby is not None
        and node.standby.receiver_running
        and not any(_serves(sender, node.standby) for sender in senders)
        for node in nodes
        if node.node in names
    )


def fed_from_archive(standby: Standby | None) -> bool:
    """Return whether the standby gets its WAL from an archive alone, segment by segment."""
    return (
        standby is not None
        and standby.receiver_running is False
        and standby.streaming_configured is False
        and standby.restores_from_archive
    )


def upstream_standby(node: NodeSnapshot, cluster: ClusterSnapshot) -> NodeSnapshot | None:
    """Return the standby that this standby streams from; None: it streams from the primary, or that is not certain."""
    standby, primary = node.standby, cluster.primary
    if standby is None or not standby.receiver_running or primary is None or primary.senders is None:
        return None
    sources = [
        source
        for source in cluster.nodes
        if source is not node and any(_serves(sender, standby) for sender in source.senders or ())
    ]
    return sources[0] if len(sources) == 1 and sources[0].standby is not None else None


def _serves(sender: WalSender, standby: Standby) -> bool:
    """Return whether the walsender may be the one that the standby's WAL receiver is connected to."""
    if standby.receiver_slot_name:
        return sender.slot_name == standby.receiver_slot_name
    return not sender.slot_name and sender.application_name == standby.receiver_application_name

"""
Which standbys stream from a cluster's primary and are missing from the configuration: a pure function of its nodes.

A standby and its walsender on the primary are matched by the slot between them, which is one's alone; without a slot by
the name of the WAL receiver, and where that is several's by their number. Addresses are of no use: a standby does not
know from where the primary sees it.
"""

from dataclasses import dataclass

from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot, QueryStatus
from pgslot.snapshot.rows import WalSender


@dataclass(frozen=True, slots=True)
class UnconfiguredStandbys:
    """What the primary sends to beside the standbys that are configured."""

    senders: tuple[WalSender, ...]
    """Those that are none of the standbys that answered."""
    unanswered: int
    """Standbys that are configured and did not answer in full: each may be one of them."""

    @property
    def count(self) -> int | None:
        """How many standbys are certainly not configured. None: it may be none, and may be more."""
        surely = max(0, len(self.senders) - self.unanswered)
        return surely if surely or not self.senders else None


def unconfigured_standbys(cluster: ClusterSnapshot) -> UnconfiguredStandbys | None:
    """Match all nodes of a cluster; None when the primary is not known, or not what it sends."""
    primary = cluster.primary
    if primary is None or primary.senders is None:
        return None
    left = list(primary.senders)
    # Of other clusters none streams from here.
    others = [
        node for node in cluster.nodes if node is not primary and QueryStatus.WRONG_CLUSTER not in _statuses(node)
    ]
    receiving = [node.standby for node in others if node.standby is not None and node.standby.receiver_running]
    for standby in receiving:
        if standby.receiver_slot_name:
            _take(left, [each for each in left if each.slot_name == standby.receiver_slot_name])
    without_slot = [standby for standby in receiving if not standby.receiver_slot_name]
    nameless = 0
    for standby in without_slot:
        name = standby.receiver_application_name
        taken = _take(left, [each for each in left if not each.slot_name and each.application_name == name])
        nameless += not taken
    for _ in range(nameless):
        _take(left, [each for each in left if not each.slot_name])
    return UnconfiguredStandbys(tuple(left), sum(node.standby is None for node in others))


def _statuses(node: NodeSnapshot) -> set[QueryStatus]:
    return set(node.statuses.values())


def _take(left: list[WalSender], candidates: list[WalSender]) -> bool:
    """Strike the first of these off; return whether there was one."""
    if candidates:
        left.remove(candidates[0])
    return bool(candidates)

"""
Which standbys stream from a cluster's primary and are missing from the configuration: a pure function of its nodes.

A standby and its walsender on the primary are matched by the slot between them, which only one standby uses; without a
slot by the WAL receiver's name, and if several share a name, by their number. Addresses cannot be matched: a standby
does not know from which address the primary sees it.
"""

from dataclasses import dataclass

from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot, QueryStatus
from pgslot.snapshot.rows import WalSender


@dataclass(frozen=True, slots=True)
class UnconfiguredStandbys:
    """The walsenders of a primary that serve no configured standby."""

    senders: tuple[WalSender, ...]
    """Those that match none of the standbys that answered."""
    unanswered: int
    """How many configured standbys did not answer in full: each may be behind one of `senders`."""

    @property
    def count(self) -> int | None:
        """How many standbys are certainly not configured. None: there may be none or some."""
        certain = max(0, len(self.senders) - self.unanswered)
        return certain if certain or not self.senders else None


def unconfigured_standbys(cluster: ClusterSnapshot) -> UnconfiguredStandbys | None:
    """Match the primary's walsenders with the cluster's standbys; None: the primary or its walsenders are unknown."""
    primary = cluster.primary
    if primary is None or primary.senders is None:
        return None
    unmatched = list(primary.senders)
    # A server of another cluster does not stream from this primary.
    standbys = [
        node for node in cluster.nodes if node is not primary and QueryStatus.WRONG_CLUSTER not in _statuses(node)
    ]
    receiving = [node.standby for node in standbys if node.standby is not None and node.standby.receiver_running]
    for standby in receiving:
        if standby.receiver_slot_name:
            _match(unmatched, [sender for sender in unmatched if sender.slot_name == standby.receiver_slot_name])
    without_slot = [standby for standby in receiving if not standby.receiver_slot_name]
    without_match = 0
    for standby in without_slot:
        name = standby.receiver_application_name
        candidates = [sender for sender in unmatched if not sender.slot_name and sender.application_name == name]
        without_match += not _match(unmatched, candidates)
    for _ in range(without_match):
        _match(unmatched, [sender for sender in unmatched if not sender.slot_name])
    return UnconfiguredStandbys(tuple(unmatched), sum(map(_receiver_unknown, standbys)))


def _receiver_unknown(node: NodeSnapshot) -> bool:
    """Return whether the node may be one of the unmatched standbys: it does not show from where it streams."""
    return node.standby is None or node.standby.receiver_running is None


def _statuses(node: NodeSnapshot) -> set[QueryStatus]:
    return set(node.statuses.values())


def _match(unmatched: list[WalSender], candidates: list[WalSender]) -> bool:
    """Remove the first candidate from the unmatched walsenders; return whether there was one."""
    if candidates:
        unmatched.remove(candidates[0])
    return bool(candidates)

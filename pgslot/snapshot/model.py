"""What a node, and a cluster, looked like at one moment."""

from dataclasses import dataclass
from enum import StrEnum

from pgslot.snapshot.history import EMPTY_HISTORY, History
from pgslot.snapshot.rows import NodeFacts, Slot, SlotCreation, Standby, Transaction, WalSender


class QueryStatus(StrEnum):
    """How a probe ended."""

    OK = "ok"
    PERMISSION_DENIED = "permission_denied"
    UNSUPPORTED = "unsupported"
    TIMEOUT = "timeout"
    ERROR = "error"
    UNREACHABLE = "unreachable"
    LOGIN_FAILED = "login_failed"
    WRONG_CLUSTER = "wrong_cluster"
    """The server answered, and is one of another cluster than the others of its cluster in the configuration."""


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """One look at one node. None in place of rows means unknown: the probe's status says why."""

    cluster: str
    node: str
    duration: float
    """Seconds that the look took."""
    statuses: dict[str, QueryStatus]
    """By probe name; every probe is there, whatever happened."""
    facts: NodeFacts | None = None
    slots: tuple[Slot, ...] | None = None
    creations: tuple[SlotCreation, ...] | None = None
    transactions: tuple[Transaction, ...] | None = None
    standby: Standby | None = None
    """None also on a primary."""
    senders: tuple[WalSender, ...] | None = None
    """Standbys that stream from it; none of a standby."""
    history: History = EMPTY_HISTORY
    """What this look and those before it showed, where the same observer took them."""

    @property
    def up(self) -> bool:
        """The node answered the node probe on the very connection of this look."""
        return self.facts is not None

    @property
    def is_primary(self) -> bool:
        return self.facts is not None and not self.facts.in_recovery

    def slot(self, name: str) -> Slot | None:
        """Return the slot of this name; None when there is none or the slots are unknown."""
        return next((slot for slot in self.slots or () if slot.slot_name == name), None)


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """One look at all nodes of a cluster, taken at the same time."""

    cluster: str
    nodes: tuple[NodeSnapshot, ...]

    @property
    def primary(self) -> NodeSnapshot | None:
        """The one node that is not in recovery; None when no node, or more than one (a split brain), says so."""
        primaries = [node for node in self.nodes if node.is_primary]
        return primaries[0] if len(primaries) == 1 else None

    def node(self, name: str) -> NodeSnapshot | None:
        return next((node for node in self.nodes if node.node == name), None)

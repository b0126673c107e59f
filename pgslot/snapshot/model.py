"""What a node, and a cluster, looked like at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pgslot.snapshot.history import EMPTY_HISTORY, History
from pgslot.snapshot.rows import NodeFacts, Slot, SlotCreation, SlotUser, Standby, Transaction, WalSender
from pgslot.snapshot.service_signs import ServiceSigns
from pgslot.snapshot.wal_rows import ArchiveStatus, Checkpoint, WalDirectory, WalFacts


class QueryStatus(StrEnum):
    """How a query ended; the values of pgslot_probe_status."""

    OK = "ok"
    PERMISSION_DENIED = "permission_denied"
    UNSUPPORTED = "unsupported"
    TIMEOUT = "timeout"
    ERROR = "error"
    UNREACHABLE = "unreachable"
    LOGIN_FAILED = "login_failed"
    WRONG_CLUSTER = "wrong_cluster"
    """The server answered, but its system identifier is not that of the cluster that it is configured for."""


@dataclass(frozen=True, slots=True)
class WalUsage:
    """The WAL directory and what may keep WAL, at one moment. None in place of a row: unknown, or not there."""

    statuses: dict[str, QueryStatus]
    """Of the queries WAL_QUERIES, by name; archive_status is missing where nothing is archived."""
    facts: WalFacts | None = None
    directory: WalDirectory | None = None
    archive_status: ArchiveStatus | None = None
    checkpoint: Checkpoint | None = None
    slots: tuple[Slot, ...] | None = None
    """As they were just before. None: unknown."""


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """What one node showed at one moment. None in place of rows means unknown: the query's status says why."""

    cluster: str
    node: str
    duration: float
    """Seconds that collecting it took."""
    statuses: dict[str, QueryStatus]
    """By query name: every query of the scope that was collected, whatever happened."""
    facts: NodeFacts | None = None
    slots: tuple[Slot, ...] | None = None
    creations: tuple[SlotCreation, ...] | None = None
    transactions: tuple[Transaction, ...] | None = None
    standby: Standby | None = None
    """None also on a primary."""
    senders: tuple[WalSender, ...] | None = None
    """Standbys that stream from this node."""
    history: History = EMPTY_HISTORY
    """What this snapshot and the earlier ones by the same collector showed."""
    users: tuple[SlotUser, ...] | None = None
    """Who uses the slots. None: unknown, or this program does not ask."""
    error: str = ""
    """Why the node could not be asked, in the words of the driver or the server. Empty: it answered, or timed out."""
    wal: WalUsage | None = None
    """As it was when the WAL directory was last listed. None: unknown, or this program does not list it."""
    service_signs: ServiceSigns | None = None
    """By what a managed service may be recognised. None: the server did not show it."""
    refused: Mapping[str, QueryStatus] = field(default_factory=dict)
    """
    Functions that the server refuses to run, without schema and parentheses, and how: unsupported, permission_denied.

    The queries did without them: what only these functions show is None.
    """

    @property
    def up(self) -> bool:
        """Whether the node answered node.sql on the connection that this snapshot was taken with."""
        return self.facts is not None

    @property
    def all_statuses(self) -> dict[str, QueryStatus]:
        """The statuses of this snapshot's queries, and of those that list the WAL directory, when they last ran."""
        return self.statuses if self.wal is None else self.statuses | self.wal.statuses

    @property
    def failures(self) -> dict[str, QueryStatus]:
        """How queries of the snapshot failed, by name; only the connection's failure, `node`, if that was the cause."""
        failed: dict[str, QueryStatus] = {
            query: status for query, status in self.all_statuses.items() if status is not QueryStatus.OK
        }
        return failed if self.up else {query: status for query, status in failed.items() if query == "node"}

    @property
    def is_primary(self) -> bool:
        return self.facts is not None and not self.facts.in_recovery

    def slot(self, name: str) -> Slot | None:
        """Return the slot of this name; None: there is none, or the slots are unknown."""
        return next((slot for slot in self.slots or () if slot.slot_name == name), None)


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """Snapshots of the nodes of one cluster, taken at the same time."""

    cluster: str
    nodes: tuple[NodeSnapshot, ...]

    @property
    def primary(self) -> NodeSnapshot | None:
        """The only node that is not in recovery; None: no node says so, or several do (a split brain)."""
        primaries = [node for node in self.nodes if node.is_primary]
        return primaries[0] if len(primaries) == 1 else None

    def node(self, name: str) -> NodeSnapshot | None:
        return next((node for node in self.nodes if node.node == name), None)

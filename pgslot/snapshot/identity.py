"""
Which cluster a server belongs to, by its system identifier: initdb makes it, and all copies of a server share it.

If a node's address led to another cluster, what happens there would be taken for the cause of what our slots show.
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pgslot.cli.logging import get_logger
from pgslot.postgres.session import Session
from pgslot.snapshot.deadlines import RECENT_SECONDS
from pgslot.snapshot.model import NodeSnapshot, QueryStatus

log = get_logger(__name__)

# A query of its own: PUBLIC may call the function unless that was revoked, and then no other query fails with it.
IDENTITY = "SELECT system_identifier::pg_catalog.text AS system_identifier FROM pg_catalog.pg_control_system()"


@dataclass(frozen=True, slots=True)
class Identity:
    """The row that IDENTITY returns."""

    system_identifier: str


def expected_system_identifier(identifiers: Mapping[str, str | None], declared: str | None = None) -> str | None:
    """
    Return the system identifier of the cluster that these nodes are meant to be, given in the configuration's order.

    That is the one that Patroni `declared`; otherwise that of most nodes, and on a tie of the first node. None: no
    node's is known.
    """
    counted = Counter(identifier for identifier in identifiers.values() if identifier is not None)
    # most_common() keeps the order in which they came.
    return declared or next((identifier for identifier, _ in counted.most_common(1)), None)


class ClusterMembership:
    """Whether the server behind a node's connection belongs to the node's cluster, as far as that is known."""

    def __init__(self, cluster: str, node: str) -> None:
        self._names = {"cluster": cluster, "node": node}
        self._identifier: str | None = None
        self._answered_at = -RECENT_SECONDS
        """Monotonic."""
        self._is_foreign = False
        self.session: Session | None = None
        """The session that was asked last."""

    @property
    def identifier(self) -> str | None:
        """The server's, if it answered in the last RECENT_SECONDS; None: it did not, or it may not be read."""
        return self._identifier if time.monotonic() - self._answered_at <= RECENT_SECONDS else None

    def mark_answered(self) -> None:
        """Note that the server has answered."""
        self._answered_at = time.monotonic()

    def server_changed(self, session: Session, identifier: str | None) -> bool:
        """Note this session's answer; return whether it certainly leads to another server than before."""
        before, self._identifier, self.session = self._identifier, identifier, session
        return None not in (before, identifier) and before != identifier

    def mask_if_foreign(self, snapshot: NodeSnapshot, expected_system_identifier: str | None) -> NodeSnapshot:
        """
        Return the snapshot, without any content if the server belongs to another cluster than the expected one.

        None: the expected one is unknown, and nothing is masked. A change is logged once.
        """
        if not snapshot.up:
            return snapshot
        is_foreign = (
            None not in (expected_system_identifier, self._identifier)
            and self._identifier != expected_system_identifier
        )
        if is_foreign != self._is_foreign:
            self._is_foreign = is_foreign
            text = "the server belongs to another cluster" if is_foreign else "the server belongs to its cluster again"
            identifiers = {
                "system_identifier": self._identifier,
                "cluster_system_identifier": expected_system_identifier,
            }
            log.log(logging.WARNING if is_foreign else logging.INFO, text, **self._names, **identifiers)
        if not is_foreign:
            return snapshot
        statuses = dict.fromkeys(snapshot.statuses, QueryStatus.WRONG_CLUSTER)
        return NodeSnapshot(snapshot.cluster, snapshot.node, snapshot.duration, statuses)

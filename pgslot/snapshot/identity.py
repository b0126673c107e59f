"""
Which cluster a server belongs to: its system identifier, which initdb makes and all copies of a server have in common.

A server of another cluster under a cluster's name would explain this one's slots by what happens there.
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pgslot.cli.logging import get_logger
from pgslot.postgres.session import Session
from pgslot.snapshot.model import NodeSnapshot, QueryStatus

RECENT_SECONDS = 60.0
"""Seconds for which a node's last look tells what it is where others are looked at: longer than between scrapes."""

log = get_logger(__name__)

# By itself: PUBLIC may call it unless that was revoked, and then only this question fails.
IDENTITY = "SELECT system_identifier::pg_catalog.text AS system_identifier FROM pg_catalog.pg_control_system()"


@dataclass(frozen=True, slots=True)
class Identity:
    """One row of IDENTITY."""

    system_identifier: str


def expected_system_identifier(identifiers: Mapping[str, str | None], told: str | None = None) -> str | None:
    """
    Return the system identifier of the cluster that these nodes are meant to be, in the configuration's order.

    That is what whoever runs the cluster has `told`; else what most of them have, and of as many the one that is listed
    first. None: nothing is known of any.
    """
    counted = Counter(identifier for identifier in identifiers.values() if identifier is not None)
    # most_common() keeps the order in which they came.
    return told or next((identifier for identifier, _ in counted.most_common(1)), None)


class ClusterMembership:
    """Whose server a node's connection leads to, as far as that is known."""

    def __init__(self, cluster: str, node: str) -> None:
        self._names = {"cluster": cluster, "node": node}
        self._identifier: str | None = None
        self._answered = -RECENT_SECONDS
        """Monotonic."""
        self._wrong = False
        self.session: Session | None = None
        """The one that was asked last."""

    @property
    def identifier(self) -> str | None:
        """Of the server that answered LATELY; None when none did, or it may not be read."""
        return self._identifier if time.monotonic() - self._answered <= RECENT_SECONDS else None

    def mark_answered(self) -> None:
        """The server has answered a look."""
        self._answered = time.monotonic()

    def server_changed(self, session: Session, identifier: str | None) -> bool:
        """Note what this session's server said; return whether it is certainly another one than before."""
        before, self._identifier, self.session = self._identifier, identifier, session
        return None not in (before, identifier) and before != identifier

    def mask_if_foreign(self, snapshot: NodeSnapshot, expected_system_identifier: str | None) -> NodeSnapshot:
        """
        Return the look as it counts in a cluster with this system identifier: one at a server of another shows nothing.

        None: which one is the cluster's is not known. Told to the log once per change.
        """
        if not snapshot.up:
            return snapshot
        wrong = (
            None not in (expected_system_identifier, self._identifier)
            and self._identifier != expected_system_identifier
        )
        if wrong != self._wrong:
            self._wrong = wrong
            text = "the node is one of another cluster" if wrong else "the node is one of its cluster again"
            known = {"system_identifier": self._identifier, "cluster_system_identifier": expected_system_identifier}
            log.log(logging.WARNING if wrong else logging.INFO, text, **self._names, **known)
        if not wrong:
            return snapshot
        statuses = dict.fromkeys(snapshot.statuses, QueryStatus.WRONG_CLUSTER)
        return NodeSnapshot(snapshot.cluster, snapshot.node, snapshot.duration, statuses)

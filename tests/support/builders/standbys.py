"""A primary's standbys: walsenders with and without a slot, and the standby nodes that they serve."""

from dataclasses import replace

from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.rows import WalSender
from tests.support.builders.snapshots import STANDBY, node

WALSENDER_A = WalSender("a", "10.0.0.2", "a")
WALSENDER_B = WalSender("b", "10.0.0.3", "b")
BARE = WalSender("walreceiver", "10.0.0.4", "")


def standby_node(
    name: str, slot: str | None = None, called: str | None = None, *, running: bool = True
) -> NodeSnapshot:
    standby = replace(
        STANDBY, receiver_running=running, receiver_slot_name=slot, receiver_application_name=called or slot
    )
    return node(name, recovery=True, standby=standby)

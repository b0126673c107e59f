"""
Who holds a slot on a real server, read from its WAL and its log: nothing that the healer looks at.

An existing slot is held by the open transactions whose first WAL lies between restart_lsn and the next running-xacts
record. A creation is held by those that are older than the xid which the decoder logs when it begins to wait.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from tests.support.servers.postgres import Postgres
from tests.support.servers.wal import RUNNING_XACTS, WalRecord

_SLOT = """
SELECT
  pg_catalog.pg_wal_lsn_diff(restart_lsn, '0/0')::int8,
  pg_catalog.pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::int8
FROM pg_catalog.pg_replication_slots
WHERE slot_name = %s
"""
_OPEN = """
SELECT transactionid::text::int8
FROM pg_catalog.pg_locks
WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted
"""
_WAITS = re.compile(r"Waiting for transactions \(approximately \d+\) older than (\d+) to end")


@dataclass(frozen=True)
class Observation:
    """A slot and the open transactions at one moment, as a superuser sees them."""

    restart: int | None
    """None: there is no such slot."""
    confirmed: int | None
    """None: it is in creation."""
    open_xids: frozenset[int]
    """Of transactions and subtransactions."""


def observe(server: Postgres, slot_name: str) -> Observation:
    rows = server.sql(_SLOT, [slot_name])
    restart, confirmed = rows[0] if rows else (None, None)
    return Observation(restart, confirmed, frozenset(xid for (xid,) in server.sql(_OPEN)))


def holders(records: Collection[WalRecord], restart: int) -> set[int]:
    """Return the xids of the transactions whose WAL follows restart_lsn's record and precedes the next one."""
    toplevel = {record.xid: record.toplevel_xid for record in records if record.toplevel_xid is not None}
    found: set[int] = set()
    for record in records:
        if record.kind == RUNNING_XACTS and record.lsn > restart:
            break
        if record.lsn >= restart and record.xid:
            found.add(toplevel.get(record.xid, record.xid))
    return found


def unproven(records: Collection[WalRecord], at: Observation, xid: int, since: int) -> str | None:
    """
    Return what a proof lacks that this transaction holds the slot; None: nothing.

    `since`: where WAL stood when it had got its xid. The rule is that of judge.unproven(), for real WAL.
    """
    running = [(record.lsn, record.running) for record in records if record.running is not None]
    following = next((xids for lsn, xids in running if at.restart is not None and lsn > at.restart), None)
    if following is None:
        return "no record has followed restart_lsn"
    later = [xids for lsn, xids in running if lsn > since and at.confirmed is not None and lsn < at.confirmed]
    if not any(xids & following == {xid} for xids in later):
        return "at no record that was confirmed it was the only one that could be the cause"
    if at.open_xids & following != {xid}:
        return "others that could be the cause are open"
    return None


def awaited_by_creation(log: str) -> int | None:
    """Return the xid that all precede which the last creation in this log waits for; None: it logged none."""
    found = _WAITS.findall(log)
    return int(found[-1]) if found else None

"""The series of who pins a slot: the transaction that is known to, or those that may."""

from dataclasses import replace

from exporter.series import cluster_series
from pgslot.snapshot.history import History, Sample
from pgslot.snapshot.model import NodeSnapshot
from tests.support.builders.retention import HERE, NOW, PINNED, QUIET, RECORD, SLOT_HISTORY, primary_with
from tests.support.builders.snapshots import SLOT, TRANSACTION, cluster

SLOT_PINNED = SLOT._replace(restart_position=RECORD, retained_wal_bytes=HERE - RECORD, sent_position=HERE, **PINNED)
MANY = tuple(replace(TRANSACTION, pid=i, xid=500 + i, xid_age=203 - i) for i in range(12))


def series(node: NodeSnapshot, name: str) -> list[str]:
    text = b"".join(block.lines() for block in cluster_series(cluster(node))).decode()
    return [line for line in text.splitlines() if line.startswith(f"{name}{{")]


def test_candidates_have_a_series_each_and_ten_at_most() -> None:
    node = primary_with(SLOT_PINNED, SLOT_HISTORY, MANY)
    shown = series(node, "pgslot_retention_candidate_age_seconds")
    assert len(shown) == 10
    assert 'slot_name="s"' in shown[0]
    assert 'pid="0",datname="app",usename="worker",application_name="batch"' in shown[0]
    assert series(node, "pgslot_retention_blocker_age_seconds") == []


def test_transaction_that_is_known_to_pin_the_slot_is_the_only_candidate() -> None:
    node = primary_with(SLOT_PINNED, SLOT_HISTORY, MANY[:1])
    alone = tuple(sample._replace(oldest_xid=500, second_xid=None, oldest_xids=(500,)) for sample in QUIET)
    alone = (Sample(NOW - 3600, RECORD - 1, None, 300), *alone[1:])
    node = replace(node, history=History(NOW, alone, slots={"s": SLOT_HISTORY}))
    assert len(series(node, "pgslot_retention_blocker_age_seconds")) == 1
    assert len(series(node, "pgslot_retention_candidate_age_seconds")) == 1

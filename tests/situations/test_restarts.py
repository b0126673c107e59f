"""What an exporter shows of a slot right after it was restarted, in each state of a slot, and what it shows later."""

from dataclasses import replace
from typing import Any

import pytest

from pgslot.diagnosis.retention import RetentionCause, diagnose_retention
from pgslot.snapshot.history import EMPTY_HISTORY, extend_history
from pgslot.snapshot.rows import Slot
from tests.support.builders.retention import HERE, LAGGING, PINNED, RECORD, WAITING_FOR_STANDBY, primary_with
from tests.support.builders.snapshots import FACTS, SLOT, TRANSACTION, cluster
from tests.support.fakes.logical_decoding import Consumer, Open, Server, watch

MEBIBYTE = 1024 * 1024
AWAY: dict[str, Any] = {"active": False}
FIRST_SCRAPE: list[tuple[str, dict[str, Any], str]] = [
    ("lost", {"wal_status": "lost"}, "invalidated"),
    ("in creation", {"in_creation": True}, "creation"),
    ("unused", AWAY | LAGGING, "inactive"),
    ("a table copy runs", AWAY | LAGGING | {"table_copy_running": True}, "table_copy"),
    ("waits for a standby", LAGGING | WAITING_FOR_STANDBY, "standby"),
    ("healthy", {}, "none"),
    ("its consumer is slow", LAGGING, "unknown"),
    ("its session decodes", LAGGING | {"decoding": True}, "unknown"),
    ("nothing is published", LAGGING | {"sent_position": HERE, "received_position": HERE}, "unknown"),
    ("pinned by a transaction, or stalled", PINNED, "unknown"),
]


@pytest.mark.parametrize(("changes", "cause"), [row[1:] for row in FIRST_SCRAPE], ids=[row[0] for row in FIRST_SCRAPE])
def test_first_scrape_claims_only_what_one_snapshot_shows(changes: dict[str, Any], cause: str) -> None:
    slot = SLOT._replace(**{"restart_position": RECORD, "confirmed_position": HERE} | changes)
    facts = replace(FACTS, synchronized_standby_slots="gone", wal_written_bytes=HERE)
    history = extend_history(EMPTY_HISTORY, facts, (slot,), (TRANSACTION,), 100.0)
    node = replace(primary_with(slot, None, (TRANSACTION,)), facts=facts, history=history)
    assert diagnose_retention(slot, node, cluster(node)).cause == cause


def lagging_slot(now: float, **changes: Any) -> Slot:
    position = int(now * MEBIBYTE)
    return SLOT._replace(
        restart_position=0,
        confirmed_position=0,
        unconfirmed_wal_bytes=position,
        pinned_wal_bytes=0,
        **{"sent_position": position, "received_position": position // 2} | changes,
    )


@pytest.mark.parametrize(("decoding", "cause"), [(None, "consumer"), (True, "decoding")])
def test_consumer_that_does_not_confirm_is_shown_after_a_minute_and_a_half(decoding: bool | None, cause: str) -> None:
    history, shown = EMPTY_HISTORY, []
    for now in range(600, 781, 15):
        slot = lagging_slot(now, decoding=decoding)
        facts = replace(FACTS, wal_written_bytes=now * MEBIBYTE)
        history = extend_history(history, facts, (slot,), (), float(now))
        # Half was received and not confirmed, and more has been counted for it since.
        delivery = history.slots["s"].delivery._replace(outstanding=True)
        history = replace(history, slots={"s": history.slots["s"]._replace(delivery=delivery)})
        node = replace(primary_with(slot, None, ()), facts=facts, history=history)
        shown.append((now - 600, str(diagnose_retention(slot, node, cluster(node)).cause)))
    assert next(at for at, shown_cause in shown if shown_cause == cause) == 90
    assert {shown_cause for at, shown_cause in shown if at < 90} == {"unknown"}
    assert {shown_cause for at, shown_cause in shown if at >= 90} == {cause}


RIVALS = [
    ("the only transaction", [], "named"),
    ("beside one that only has an xid", [Open(0, None, 10_000)], "candidates"),
]


@pytest.mark.parametrize(("rivals", "result"), [row[1:] for row in RIVALS], ids=[row[0] for row in RIVALS])
def test_transaction_that_pinned_the_slot_before_the_restart(rivals: list[Open], result: str) -> None:
    """It is named after proof alone; with a rival nothing can prove it, until the rival has ended."""
    server = Server(10 * MEBIBYTE, [Open(600, 600, 10_000), *rivals])
    watched = watch(Consumer(server, confirms_each=10), 1800, 15, first_look=900)
    causes = [(at - 900, str(retention.cause)) for at, retention in watched]
    assert causes[0][1] == "unknown"
    assert {cause for _, cause in causes} == {"unknown", "transaction"}
    assert min(at for at, cause in causes if cause == "transaction") <= 75
    last = watched[-1][1]
    if result == "named":
        assert last.blocker is not None
        assert last.blocker.pid == 0
        assert min(at - 900 for at, retention in watched if retention.blocker is not None) <= 180
    else:
        assert all(retention.blocker is None for _, retention in watched)
        assert {candidate.pid for candidate in last.candidates} == {0, 1}


def test_rival_that_ends_and_frees_nothing_was_not_the_one() -> None:
    server = Server(10 * MEBIBYTE, [Open(600, 600, 10_000), Open(0, None, 1200)])
    watched = watch(Consumer(server, confirms_each=10), 1800, 15, first_look=900)
    named = [(at, retention.blocker.pid) for at, retention in watched if retention.blocker is not None]
    assert {pid for _, pid in named} == {0}
    assert 1200 < named[0][0] <= 1380


def test_stalled_slot_is_stalled_again_within_two_minutes() -> None:
    server = Server(10 * MEBIBYTE, last_record=600)
    watched = watch(Consumer(server, confirms_each=10), 1800, 15, first_look=900)
    causes = [(at - 900, retention.cause) for at, retention in watched]
    assert min(at for at, cause in causes if cause is RetentionCause.STALLED) <= 120
    assert {cause for _, cause in causes} == {RetentionCause.UNKNOWN, RetentionCause.STALLED}

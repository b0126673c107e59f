"""pgslot_heal_last_failure_timestamp_seconds names the slots whose heal failed, and no more of them than its limit."""

import pytest
from prometheus_client import CollectorRegistry

from healer.metrics import FAILURES, MAX_FAILED_SLOTS, HealerMetrics
from healer.remedies.progress import WELL, Outcome
from healer.remedies.slot_state import SlotKey

REMEDY = "log_standby_snapshot"
CDC = SlotKey("orders-1", "cdc")


@pytest.fixture
def metrics() -> HealerMetrics:
    return HealerMetrics(CollectorRegistry())


def failed(metrics: HealerMetrics) -> list[tuple[str, str, str]]:
    """Return node, slot name and outcome of each series."""
    [family] = metrics.last_failure.collect()
    labels = [sample.labels for sample in family.samples]
    return [(of["node"], of["slot_name"], of["outcome"]) for of in labels]


@pytest.mark.parametrize("outcome", Outcome)
def test_only_failed_slots_have_a_series(metrics: HealerMetrics, outcome: Outcome) -> None:
    metrics.slot_ended("orders", REMEDY, CDC, outcome, None)
    assert failed(metrics) == ([("orders-1", "cdc", outcome)] if outcome in FAILURES else [])


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - FAILURES))
def test_series_ends_when_the_slot_is_well_again(metrics: HealerMetrics, outcome: Outcome) -> None:
    metrics.slot_ended("orders", REMEDY, CDC, Outcome.GAVE_UP, None)
    metrics.slot_ended("orders", REMEDY, SlotKey("orders-2", "cdc"), Outcome.GAVE_UP, None)
    metrics.slot_ended("orders", REMEDY, CDC, outcome, None)
    assert (("orders-1", "cdc", "gave_up") in failed(metrics)) == (outcome not in WELL)
    assert ("orders-2", "cdc", "gave_up") in failed(metrics)


def test_slot_that_fails_again_has_its_last_outcome_alone(metrics: HealerMetrics) -> None:
    for outcome in (Outcome.NO_EFFECT, Outcome.GAVE_UP):
        metrics.slot_ended("orders", REMEDY, CDC, outcome, None)
    assert failed(metrics) == [("orders-1", "cdc", "gave_up")]


def test_slots_are_limited_and_the_first_is_dropped_first(metrics: HealerMetrics) -> None:
    for number in range(MAX_FAILED_SLOTS + 1):
        metrics.slot_ended("orders", REMEDY, SlotKey("orders-1", f"slot_{number}"), Outcome.ERROR, None)
    slots = [slot for _, slot, _ in failed(metrics)]
    assert slots == [f"slot_{number}" for number in range(1, MAX_FAILED_SLOTS + 1)]


def test_series_end_with_their_cluster(metrics: HealerMetrics) -> None:
    metrics.slot_ended("orders", REMEDY, CDC, Outcome.GAVE_UP, None)
    metrics.slot_ended("lab", REMEDY, CDC, Outcome.NO_EFFECT, None)
    metrics.remove_remedy("orders", REMEDY)
    assert failed(metrics) == [("orders-1", "cdc", "no_effect")]

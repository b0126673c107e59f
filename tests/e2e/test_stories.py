"""The five stories of the demo, end to end on real servers."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from exporter.catalogue import CATALOGUE
from tests.support import stories
from tests.support.servers.stack import Stack
from tests.support.stories import ROWS, STORIES, THRESHOLDS, Check, Scene

# The first test waits about 90 seconds for all five stories.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@dataclass
class StoryResults:
    """The stack after all stories, with the checks or the error of each story."""

    stack: Stack
    started: float
    checks: dict[str, list[Check]] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)


@pytest.fixture(scope="module")
def results() -> Iterator[StoryResults]:
    """Run all stories in order; a story that fails does not stop the next ones."""
    with Stack(thresholds=THRESHOLDS) as stack:
        results = StoryResults(stack, time.time())
        stack.start_databases(rows=ROWS)
        stack.start_consumer()
        # An unused slot, so that the metrics of inactive slots appear, too.
        stack.primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('unused', 'pgoutput')")
        stack.start_exporter()
        stack.start_monitoring()
        scene = Scene(stack, lambda source, text, _at: print(f"{source}: {text}"))
        for story in STORIES.values():
            print(f"--- {story.__name__}")
            try:
                results.checks[story.__name__] = story(scene)
            except Exception as error:  # noqa: BLE001 - the story's test raises it again
                results.failures[story.__name__] = error
        yield results


@pytest.mark.parametrize("name", [story.__name__ for story in STORIES.values()])
def test_claims_of_a_story_hold(results: StoryResults, name: str) -> None:
    if name in results.failures:
        raise results.failures[name]
    assert results.checks[name]
    assert [check.claim for check in results.checks[name] if not check.held] == []


def test_stories_are_these_five() -> None:
    assert list(STORIES.values()) == [
        stories.control,
        stories.healed,
        stories.consumer,
        stories.blocked,
        stories.no_capability,
    ]


TESTED_ELSEWHERE = {
    "pgslot_retention_blocker_age_seconds",
    "pgslot_retention_candidate_age_seconds",
    "pgslot_retention_standby_info",
    "pgslot_idle_replication_slot_timeout_seconds",
    "pgslot_slotsync_skip_reason",
    "pgslot_slotsync_skips_total",
    "pgslot_slotsync_last_skip_timestamp_seconds",
    "pgslot_decoding_mem_exceeded_count_total",
    "pgslot_failover_ready",
    "pgslot_failover_unready_reason",
    "pgslot_failover_lag_bytes",
    "pgslot_failover_last_sync_timestamp_seconds",
    "pgslot_feedback_broken_info",
    "pgslot_leftover_info",
    "pgslot_depends_on_primary_slots",
    "pgslot_archiver_failing",
    "pgslot_archiver_failed_total",
    "pgslot_archiver_last_archived_timestamp_seconds",
    "pgslot_archive_ready_files",
    "pgslot_wal_volume_size_bytes",
    "pgslot_wal_volume_filesystem_info",
    "pgslot_wal_volume_claim_info",
    "pgslot_patroni_up",
    "pgslot_patroni_last_answer_timestamp_seconds",
    "pgslot_patroni_members",
}
"""
These metrics need minutes, a setting, a failover slot, a switchover, an archive, a volume, Patroni or PostgreSQL 19.
tests/alerts/test_incidents_on_servers.py covers the metrics that rules read, tests/exporter/test_standby.py and
tests/pgslot/diagnosis/test_wal_level.py those of PostgreSQL 19,
tests/pgslot/diagnosis/test_failover_readiness_on_servers.py those of failover slots, and tests/e2e/test_patroni.py
those of Patroni.
"""


def test_documented_metrics_are_exactly_those_that_appeared(results: StoryResults) -> None:
    names = results.stack.prometheus.get("/api/v1/label/__name__/values")["data"]
    exporter_metrics = {name for name in names if name.startswith("pgslot_") and not name.startswith("pgslot_heal_")}
    assert exporter_metrics == set(CATALOGUE) - TESTED_ELSEWHERE


def test_stack_stops_with_its_context() -> None:
    """Neither a process nor the directory remains."""
    with Stack() as stack:
        stack.start_databases()
        stack.start_exporter()
        running = [getattr(stack, name).process for name in ("primary", "standby", "exporter")]
        assert all(process.running for process in running)
    assert not any(process.running for process in running)
    assert not stack.folder.exists()

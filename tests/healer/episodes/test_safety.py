"""
The safety checklist of healers, box by box: each test has the words of its box in its name.

What takes servers of its own is in tests/healer/episodes/test_faults.py, several healers in
tests/healer/episodes/test_several_healers.py, reasons and their end in tests/healer/remedies/test_capability.py,
budgets in tests/healer/episodes/test_budget.py, the kill switch in tests/healer/test_program.py, silences in
tests/healer/webhook/test_reconcile.py.
"""

import asyncio
import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

import healer as package
from healer.remedies.attempt import Act
from healer.remedies.connection import PRIMARY_TIMEOUT
from healer.remedies.force_snapshot.connection import RecordConnection
from pgslot.config.model import HealerSettings
from tests.support.hanging_creations import blocked_creation, hanging_creation
from tests.support.paths import ROOT
from tests.support.running_healer import QUICK, alert, healer_config, healing, to_primary, until, watched
from tests.support.servers.stack import HEALER_ROLE, Stack

FOLDER = Path(package.__path__[0])
SOURCES = {
    file.relative_to(FOLDER).as_posix(): file.read_text("utf-8")
    for file in FOLDER.rglob("*.py")
    if file.relative_to(FOLDER).parts[0] != "doctor"
}


# Decide


async def test_level_driven_the_alert_is_only_a_hint_read_pg_state_right_before_every_call_healthy_do_nothing(
    databases: Stack,
) -> None:
    with databases.quiet():
        async with healing(watched(databases)) as healer:
            await healer.post(alert("not_there"))
            assert (await healer.ended())["calls"] == 0
            with databases.standby.create_slot("healthy") as creator:
                databases.primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
                assert creator.wait(20)
            await healer.post(alert("healthy"))
            episode = await healer.ended()
    assert (episode["outcome"], episode["calls"]) == ("resolved_itself", 0)


UNKNOWN = [
    {"heal": "log_standby_snapshot"},
    {"heal": "log_standby_snapshot", "cluster": "", "node": "standby", "slot_name": "s"},
    {"heal": "log_standby_snapshot", "cluster": "*", "node": "standby", "slot_name": "s"},
    {"heal": "log_standby_snapshot", "cluster": ".*", "node": "standby", "slot_name": "s"},
    {"heal": "log_standby_snapshot", "cluster": "c", "node": "", "slot_name": ""},
    {"heal": "log_standby_snapshot", "cluster": "c", "node": "standby"},
    {"heal": "log_standby_snapshot", "cluster": "c", "node": "elsewhere", "slot_name": "s"},
    {"heal": "", "cluster": "c", "node": "standby", "slot_name": "s"},
]


@pytest.mark.parametrize("labels", UNKNOWN)
async def test_empty_unknown_is_never_all_fail_closed(databases: Stack, labels: dict[str, str]) -> None:
    with hanging_creation(databases, "waiting") as creator:
        async with healing(watched(databases)) as healer:
            status, text = await healer.post(alert("s") | {"labels": labels})
            assert status == 200
            assert re.fullmatch(r"ignored_\w+=1", text)
            assert await healer.episodes() == []
        assert not creator.done


EVIL = "x'; DROP TABLE orders; -- host=203.0.113.7 dbname=evil"


async def test_only_allow_listed_targets_from_config_nothing_in_payload_may_form_a_dsn_host_sql_or_metric_label_name(
    databases: Stack,
) -> None:
    async with healing(watched(databases)) as healer:
        assert await healer.post(alert(EVIL)) == (200, "ignored_no_slot=1")
        assert await healer.episodes() == []
        labels = alert("s")["labels"] | {EVIL: "x", "conninfo": "host=203.0.113.7", "instance": "203.0.113.7:5432"}
        assert await healer.post(alert(EVIL) | {"labels": labels}) == (200, "started=1")
        episode = await healer.ended()
        assert episode["subjects"] == [{"node": "standby", "slot_name": "s"}]
        metrics = await healer.metrics()
        assert EVIL not in metrics
        assert "203.0.113.7" not in metrics
    assert databases.primary.sql("SELECT 1 FROM pg_catalog.pg_class WHERE relname = 'orders'") == [(1,)]


def test_sql_is_a_constant() -> None:
    """Statements are in a few files; only a number of our own or one of two fixed calls is formatted into them."""
    holders = {name: text for name, text in SOURCES.items() if re.search(r"SELECT |pg_catalog\.", text)}
    assert holders.keys() == {
        "remedies/connection.py",
        "remedies/force_snapshot/statements.py",
        "remedies/terminate/checkpoints.py",
        "remedies/terminate/connection.py",
        "remedies/terminate/statements.py",
    }
    text = "".join(holders.values())
    assert sorted(re.findall(r"\b(_[A-Z_]+)\.format\((.*)\)", text)) == [
        ("_ACT", 'act=_MESSAGE if by_message else _FUNCTION, recent=round(float(recent), 3), rehearsed="false"'),
        ("_ACT", 'act=_MESSAGE, recent=0.0, rehearsed="pg_catalog.pg_backend_pid() IS NOT NULL"'),
        ("_IDLE_TIMEOUT", "int(self._idle_timeout * 1000)"),
    ]
    assert not re.search(r'f"[^"]*(SELECT|pg_catalog)[^"]*\{(?!quote_identifier)', text)


TRAP = """
CREATE FUNCTION public.trap(v pg_catalog.{0}) RETURNS pg_catalog.bool LANGUAGE plpgsql AS $$
BEGIN RAISE LOG 'A STRANGER RUNS AS %', current_user; RETURN true; END $$;
CREATE DOMAIN public.{0} AS pg_catalog.{0} CHECK (public.trap(VALUE::pg_catalog.{0}))
"""


async def test_objects_of_other_roles_do_not_run_in_the_healers_session(databases: Stack) -> None:
    """A role that may create objects in a schema before pg_catalog in search_path could shadow types."""
    primary = databases.primary
    primary.sql("CREATE DATABASE trapped")
    try:
        with psycopg.connect(primary.conninfo(dbname="trapped"), autocommit=True) as owner:
            owner.execute("ALTER DATABASE trapped SET search_path = public, pg_catalog")
            owner.execute(f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO {HEALER_ROLE}")
            for kind in ("text", "int8", "int4", "oid"):
                owner.execute(TRAP.format(kind).encode())
        target = healer_config(primary.conninfo(HEALER_ROLE, "trapped"))
        async with RecordConnection(target) as acting:
            assert (await acting.act(Act(1.0))).result == "ok"
        assert "A STRANGER RUNS AS" not in primary.process.log.read_text("utf-8")
        with psycopg.connect(primary.conninfo(HEALER_ROLE, "trapped"), autocommit=True) as bare:
            bare.execute("SELECT 'x'::text")
        assert f"A STRANGER RUNS AS {HEALER_ROLE}" in primary.process.log.read_text("utf-8"), "the trap works"
    finally:
        primary.sql("DROP DATABASE trapped WITH (FORCE)")


async def test_confirm_pg_is_in_recovery_false_in_the_same_session_as_the_call_re_resolve_retry_bounded(
    databases: Stack,
) -> None:
    """A conninfo that leads to a standby: nothing is called there, and the episode ends when it gives up."""
    conninfo = databases.standby.conninfo(HEALER_ROLE)
    with hanging_creation(databases, "wrong"):
        settings = replace(QUICK, give_up_after=2.5)
        async with healing(watched(databases, conninfo=conninfo), settings=settings) as healer:
            await healer.post(alert("wrong"))
            episode = await healer.ended()
            tries = await healer.value("pgslot_heal_calls_total", cluster="c", result="unavailable")
    assert (episode["outcome"], episode["why"], episode["calls"]) == ("unavailable", "no_primary", 0)
    assert 1 <= (tries or 0) <= 4


async def test_unhealthy_for_a_minimum_time_before_acting_respects_for_but_re_checks(databases: Stack) -> None:
    """The alert was about an older creation: one that has just begun may be about to end."""
    with databases.quiet():
        async with healing(watched(databases)) as healer:
            with databases.standby.create_slot("young") as creator:
                await until(lambda: _in_creation(databases, "young"), "the creation has begun")
                await healer.post(alert("young"))
                episode = await healer.ended()
                assert creator.wait(5)
    first_call = next(line["seconds"] for line in episode["timeline"] if line["text"].startswith("called"))
    waited = next(line["seconds"] for line in episode["timeline"] if "waiting" in line["text"])
    assert episode["outcome"] == "healed"
    assert first_call - waited > 0.4


def _in_creation(stack: Stack, slot: str) -> bool:
    query = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s AND restart_lsn IS NOT NULL"
    return bool(stack.standby.sql(query, [slot]))


# Limit


async def test_one_in_flight_loop_per_target_n_duplicates_of_one_webhook_same_and_different_fingerprints_1_loop(
    databases: Stack,
) -> None:
    """The same number of calls as for one webhook, however many come."""
    counts = []
    for copies in (1, 60):
        slot = f"duplicates_{copies}"
        with blocked_creation(databases, slot):
            settings = replace(QUICK, calls_per_episode=3)
            async with healing(watched(databases), settings=settings) as healer:
                for i in range(copies):
                    await healer.post(alert(slot, fingerprint=f"f{i % 7}"))
                await healer.ended()
                episodes = await healer.episodes()
                counts.append((len(episodes), await healer.value("pgslot_heal_calls_total", cluster="c", result="ok")))
        databases.drop_slot(slot)
    assert counts == [(1, 3.0), (1, 3.0)]


async def test_per_target_min_interval(databases: Stack) -> None:
    """However many alerts arrive, calls after the burst are an interval apart."""
    with blocked_creation(databases, "interval"):
        settings = HealerSettings(burst_interval=0.1, burst_calls=1, interval=1.5, calls_per_episode=3)
        async with healing(watched(databases), settings=settings) as healer:
            while True:
                await healer.post(alert("interval"))
                [*_, first] = await healer.episodes()
                if first["outcome"]:
                    break
                await asyncio.sleep(0.05)
    calls = [line["seconds"] for line in first["timeline"] if line["text"].startswith("called")]
    assert len(calls) == 3
    assert all(later - earlier >= 1.49 for earlier, later in itertools.pairwise(calls))


async def test_dedupe_must_still_allow_bounded_re_attempts_failed_attempt_must_not_eat_the_cooldown_silently(
    databases: Stack,
) -> None:
    """The first attempt finds no primary; the next one is made in the same episode, and the failure is reported."""
    with hanging_creation(databases, "second_try") as creator:
        nowhere = to_primary(databases.standby)
        async with healing(watched(databases, conninfo=nowhere)) as healer:
            await healer.post(alert("second_try"))
            await healer.until("it has tried twice", lambda episodes: _failed_attempts(episodes[0]) >= 2)
            assert not creator.done
        async with healing(watched(databases)) as healer:
            await healer.post(alert("second_try"))
            assert (await healer.ended())["outcome"] == "healed"


def _failed_attempts(episode: dict[str, Any]) -> int:
    return sum(line["text"].startswith("not called: no_primary") for line in episode["timeline"])


async def test_statement_timeout_lock_timeout_connect_timeout_connection_never_exceeds_pool_of_1_per_target(
    databases: Stack,
) -> None:
    """And application_name is set."""
    acting = healer_config(to_primary(databases.primary))
    async with RecordConnection(acting) as primary:
        for _ in range(5):
            assert (await primary.act(Act(0.0))).result == "ok"
        rows = databases.primary.sql(
            "SELECT application_name FROM pg_catalog.pg_stat_activity WHERE usename = %s", [HEALER_ROLE]
        )
        [(name,)] = rows
        assert name.startswith("pg_slot_healer called ")
        assert primary.session is not None
        queries = [(f"SELECT pg_catalog.current_setting('{name}') AS value", Setting) for name in TIMEOUTS]
        shown = [rows[0].value for rows in await primary.session.fetch(queries, PRIMARY_TIMEOUT)]
    assert len(shown) == len(TIMEOUTS)
    assert all(value not in ("", "0", "0ms") for value in shown), shown


TIMEOUTS = ("statement_timeout", "lock_timeout", "idle_session_timeout", "tcp_keepalives_idle")


class Setting(NamedTuple):
    value: str


BOXES_ELSEWHERE = {
    "budgets: attempts cap, longer-window cap, flapping": "test_flapping_does_not_reset_the_budget_of_the_hour",
    "global blast-radius budget": "test_alerts_beyond_clusters_at_once_are_refused",
    "queue bounded, full, 503, not remembered as seen": "test_full_episode_refuses_further_slots_and_keeps_its_own",
    "kill switch": "test_kill_switch_takes_effect_by_a_reload_for_a_cluster_or_all",
    "silence": "test_am_silence_is_honoured_mid_flight_and_the_alert_is_taken_again_when_it_ends",
    "two replicas": "test_several_healers_make_no_more_calls_than_one",
    "clears itself": "test_gauge_clears_itself_after_the_grant",
}


@pytest.mark.parametrize("name", BOXES_ELSEWHERE.values(), ids=BOXES_ELSEWHERE.keys())
def test_boxes_covered_in_other_files_exist(name: str) -> None:
    texts = [file.read_text("utf-8") for file in (ROOT / "tests/healer").rglob("test_*.py")]
    assert any(f"def {name}(" in text for text in texts)

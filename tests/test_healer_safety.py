"""
The safety checklist of healers, box by box: each test has the words of its box in its name.

What takes servers of its own is in test_healer_faults.py, several healers in test_healer_replicas.py, reasons and
their end in test_healer_capabilities.py, budgets in test_healer_budget.py, the kill switch in test_healer_operation.py,
silences in test_healer_resync.py.
"""

import asyncio
import itertools
import re
import signal
from contextlib import ExitStack
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests

import healer as package
from exporter.config import Cluster, Conninfo, HealerSettings, HealerTarget, Node
from healer.primary import Primary
from healer.tracks import Outcome
from healer.web import LARGEST_BODY
from tests.healing import QUICK, alert, healing, nothing_left_behind, to_primary, until, usable, watched
from tests.stack.processes import free_port, wait_for
from tests.stack.programs import Program
from tests.stack.proxy import Fault, Proxy
from tests.stack.stack import HEALER_ROLE, Stack
from tests.test_healer_operation import write

SOURCES = {file: file.read_text("utf-8") for file in Path(package.__path__[0]).glob("*.py")}


def called(episodes: list[dict[str, Any]]) -> bool:
    return bool(episodes and episodes[0]["calls"])


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
    databases.drop_slot("healthy")


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
    with databases.quiet(), databases.standby.create_slot("somebody_waits") as creator:
        async with healing(watched(databases)) as healer:
            status, text = await healer.post(alert("s") | {"labels": labels})
            assert status == 200
            assert re.fullmatch(r"ignored_\w+=1", text)
            assert await healer.episodes() == []
        assert not creator.done
    databases.drop_slot("somebody_waits")


EVIL = "x'; DROP TABLE orders; -- host=203.0.113.7 dbname=evil"


async def test_only_allow_listed_targets_from_config_nothing_in_payload_may_form_a_dsn_host_sql_or_metric_label_name(
    databases: Stack,
) -> None:
    async with healing(watched(databases)) as healer:
        labels = alert(EVIL)["labels"] | {EVIL: "x", "conninfo": "host=203.0.113.7", "instance": "203.0.113.7:5432"}
        assert await healer.post(alert(EVIL) | {"labels": labels}) == (200, "started=1")
        episode = await healer.ended()
        assert episode["subjects"] == [{"node": "standby", "slot_name": EVIL}]
        metrics = await healer.metrics()
        assert EVIL not in metrics
        assert "203.0.113.7" not in metrics
    assert databases.primary.sql("SELECT 1 FROM pg_catalog.pg_class WHERE relname = 'orders'") == [(1,)]


def test_sql_is_a_constant() -> None:
    """Every statement of the healer is in primary.py, and what is put into one there is a number of our own."""
    holders = {file.name for file, text in SOURCES.items() if re.search(r"SELECT |pg_catalog\.", text)}
    assert holders <= {"primary.py", "grants.py", "doctor.py"}
    text = next(text for file, text in SOURCES.items() if file.name == "primary.py")
    assert re.findall(r"(\w+)\.format\((.*)\)", text) == [("_IDLE_TIMEOUT", "int(self._lock_ttl * 1000)")]
    assert not re.search(r'f"[^"]*(SELECT|pg_catalog)[^"]*\{(?!_quoted)', text)


async def test_confirm_pg_is_in_recovery_false_in_the_same_session_as_the_call_re_resolve_retry_bounded(
    databases: Stack,
) -> None:
    """A conninfo that leads to a standby: nothing is called there, and the episode ends when it gives up."""
    conninfo = databases.standby.conninfo(HEALER_ROLE)
    with databases.quiet(), databases.standby.create_slot("wrong"):
        settings = replace(QUICK, give_up_after=2.5)
        async with healing(watched(databases, conninfo=conninfo), settings=settings) as healer:
            await healer.post(alert("wrong"))
            episode = await healer.ended()
            tries = await healer.value("pgslot_heal_calls_total", cluster="c", result="unavailable")
    assert (episode["outcome"], episode["why"], episode["calls"]) == ("unavailable", "no_primary", 0)
    assert 1 <= (tries or 0) <= 4
    databases.drop_slot("wrong")


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
    databases.drop_slot("young")


def _in_creation(stack: Stack, slot: str) -> bool:
    found = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s AND restart_lsn IS NOT NULL"
    return bool(stack.standby.sql(found, [slot]))


# Limit


async def test_one_in_flight_loop_per_target_n_duplicates_of_one_webhook_same_and_different_fingerprints_1_loop(
    databases: Stack,
) -> None:
    """The same number of calls as for one webhook, however many come."""
    counts = []
    for copies in (1, 60):
        slot = f"duplicates_{copies}"
        with databases.quiet(), databases.primary.hold_transaction(), databases.standby.create_slot(slot):
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
    """Whatever comes in, calls after the burst are an interval apart."""
    with databases.quiet(), databases.primary.hold_transaction(), databases.standby.create_slot("interval"):
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
    databases.drop_slot("interval")


async def test_dedupe_must_still_allow_bounded_re_attempts_failed_attempt_must_not_eat_the_cooldown_silently(
    databases: Stack,
) -> None:
    """The first attempt finds nobody to ask; the next one is made within the same episode, and the failure is said."""
    with databases.quiet(), databases.standby.create_slot("second_try") as creator:
        nowhere = to_primary(databases.standby)
        async with healing(watched(databases, conninfo=nowhere)) as healer:
            await healer.post(alert("second_try"))
            await healer.until("it has tried twice", lambda found: _attempts(found[0]) >= 2)
            assert not creator.done
        async with healing(watched(databases)) as healer:
            await healer.post(alert("second_try"))
            assert (await healer.ended())["outcome"] == "healed"
    databases.drop_slot("second_try")


def _attempts(episode: dict[str, Any]) -> int:
    return sum(line["text"].startswith("not called: no_primary") for line in episode["timeline"])


async def test_statement_timeout_lock_timeout_connect_timeout_connection_never_exceeds_pool_of_1_per_target(
    databases: Stack,
) -> None:
    """And application_name is set."""
    acting = HealerTarget(Conninfo(to_primary(databases.primary)), enabled=True, dry_run=False)
    async with Primary(acting) as primary:
        for _ in range(5):
            assert (await primary.call()).result == "ok"
        rows = databases.primary.sql(
            "SELECT application_name FROM pg_catalog.pg_stat_activity WHERE usename = %s", [HEALER_ROLE]
        )
        assert rows == [("pg_slot_healer",)]
        assert primary._session is not None
        connection = primary._session._connection
        shown = [await (await connection.execute(f"SHOW {name}".encode())).fetchone() for name in TIMEOUTS]
    assert all(value and value[0] not in ("0", "0ms") for value in shown), shown


TIMEOUTS = ("statement_timeout", "lock_timeout", "idle_session_timeout", "tcp_keepalives_idle")


# Stop


async def test_give_up_is_a_state_with_metric_not_silence(databases: Stack) -> None:
    with databases.quiet(), databases.primary.hold_transaction(), databases.standby.create_slot("given_up"):
        async with healing(watched(databases), settings=replace(QUICK, give_up_after=1.5)) as healer:
            await healer.post(alert("given_up"))
            await healer.until("it runs", called)
            assert await healer.value("pgslot_heal_episode_start_timestamp_seconds", cluster="c") is not None
            assert (await healer.ended())["outcome"] == "gave_up"
            assert await healer.value("pgslot_heal_episodes_total", cluster="c", outcome="gave_up") == 1
            assert await healer.value("pgslot_heal_episode_start_timestamp_seconds", cluster="c") is None
    databases.drop_slot("given_up")


async def test_resolved_stops_the_loop_but_is_not_counted_as_success(databases: Stack) -> None:
    with databases.quiet(), databases.primary.hold_transaction(), databases.standby.create_slot("resolved"):
        async with healing(watched(databases)) as healer:
            await healer.post(alert("resolved"))
            await healer.until("it has called", called)
            await healer.post(alert("resolved", firing=False))
            assert (await healer.ended())["outcome"] == "cancelled"
            assert await healer.value("pgslot_heal_episodes_total", cluster="c", outcome="healed") == 0
    databases.drop_slot("resolved")


def test_sigterm_stop_accepting_finish_or_cancel_the_one_query_exit_within_grace_period_no_half_written_state(
    databases: Stack, tmp_path: Path
) -> None:
    write(tmp_path / "pgslot.yml", databases)
    program = Program("pg-slot-healer", tmp_path / "pgslot.yml", tmp_path)
    program.start()
    with databases.quiet(), databases.primary.hold_transaction(), databases.standby.create_slot("terminated"):
        requests.post(f"{program.url}/alerts", json={"version": "4", "alerts": [alert("terminated")]}, timeout=10)
        wait_for(lambda: called(program.get_json("/episodes")), "it has called")
        assert program.process.stop(signal.SIGTERM, timeout=12) == 0
        with pytest.raises(requests.ConnectionError):
            program.get("/-/ready")
        wait_for(lambda: nothing_left_behind(databases.primary, databases.standby), "nothing is left behind")
    assert [line["outcome"] for line in program.log_events() if line["msg"] == "episode ended"] == ["cancelled"]
    databases.drop_slot("terminated")


async def test_while_it_shuts_down_readiness_is_false_and_webhooks_get_503(databases: Stack) -> None:
    async with healing(watched(databases)) as healer:
        assert healer.client.app is not None
        await healer.client.app.shutdown()
        assert (await healer.client.get("/-/ready")).status == 503
        assert (await healer.post(alert("late")))[0] == 503
        assert await healer.episodes() == []


async def test_restart_state_rebuilt_from_pg_cooldown_restarts_conservatively(databases: Stack) -> None:
    """What is left of the hour's calls is a tenth after a start, and what has healed meanwhile is not healed again."""
    with databases.quiet(), databases.standby.create_slot("restarted") as creator:
        for _ in range(3):
            settings = replace(QUICK, calls_per_hour=100)
            async with healing(watched(databases), settings=settings) as healer:
                assert await healer.value("pgslot_heal_calls_remaining", cluster="c", budget="hour") == 10
                await healer.post(alert("restarted"))
                await healer.ended()
                last = await healer.ended()
        assert creator.wait(5)
    assert (last["outcome"], last["calls"]) == ("resolved_itself", 0)
    databases.drop_slot("restarted")


# Prove


async def test_idempotent_calling_twice_is_harmless_each_call_costs_one_small_wal_record_count_them(
    databases: Stack,
) -> None:
    with databases.quiet():
        before = databases.primary._lsn()
        async with Primary(
            HealerTarget(Conninfo(to_primary(databases.primary)), enabled=True, dry_run=False)
        ) as primary:
            for _ in range(10):
                assert (await primary.call()).result == "ok"
        assert databases.primary._lsn() - before <= 10 * 64


async def test_verify_by_independent_read_slot_exists_confirmed_flush_lsn_not_null(databases: Stack) -> None:
    """By the nodes' own conninfo, not on the session that acts. A creation that ends is final: no hold time."""
    with databases.quiet(), databases.standby.create_slot("verified") as creator:
        async with healing(watched(databases)) as healer:
            await healer.post(alert("verified"))
            assert (await healer.ended())["outcome"] == "healed"
            assert usable(databases.standby, "verified")
        assert creator.wait(5)
    databases.drop_slot("verified")


def test_outcome_enumerated() -> None:
    assert set(Outcome) == {
        *("healed", "resolved_itself", "no_effect", "gave_up", "unavailable", "cancelled", "dry_run", "error")
    }


async def test_missing_capability_is_its_own_state_not_failure_unknown_is_not_unavailable(databases: Stack) -> None:
    """Before the first check has ended nothing is claimed: the series are absent."""
    with Proxy(databases.primary.port) as hole:
        hole.set(Fault.HUNG)
        async with healing(watched(databases, conninfo=f"host=127.0.0.1 port={hole.port} user=x")) as healer:
            assert await healer.value("pgslot_heal_capability_unavailable", cluster="c", reason="unreachable") is None


async def test_one_targets_error_or_hang_never_delays_another_handler_exceptions_never_kill_the_service(
    databases: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as cleanup:
        hole = cleanup.enter_context(Proxy(databases.primary.port))
        hole.set(Fault.HUNG)
        cleanup.enter_context(databases.quiet())
        creator = cleanup.enter_context(databases.standby.create_slot("other"))
        nowhere = Conninfo(f"host=127.0.0.1 port={hole.port} user=x")
        target = HealerTarget(nowhere, enabled=True, dry_run=False)
        async with healing(Cluster("hung", (Node("hung", "n", nowhere),), target), watched(databases)) as healer:
            await healer.post(alert("x", cluster="hung", node="n"), alert("other"))
            await healer.until("the other is healed", lambda found: [e for e in found if e["outcome"] == "healed"])
            assert creator.wait(5)
            monkeypatch.setattr("healer.episode.see", _defect)
            await healer.post(alert("defect"))
            await healer.until("the defect is an outcome", lambda found: [e for e in found if e["outcome"] == "error"])
            assert (await healer.client.get("/-/healthy")).status == 200
    databases.drop_slot("other")


def _defect(*_: object) -> None:
    raise RuntimeError("a defect")


async def test_webhook_401_on_bad_auth_413_over_size_400_on_bad_json_version_5xx_only_when_a_retry_can_help(
    tmp_path: Path,
) -> None:
    """And the comparison takes the same time whatever is given: hmac.compare_digest."""
    (tmp_path / "token").write_text("right")
    settings = HealerSettings(webhook_token_file=tmp_path / "token")
    nowhere = Conninfo(f"host=127.0.0.1 port={free_port()} user=x")
    cluster = Cluster("c", (Node("c", "standby", nowhere),), HealerTarget(nowhere, enabled=True, dry_run=False))
    right = {"Authorization": "Bearer right"}
    async with healing(cluster, settings=settings) as healer:

        async def answer(body: bytes, headers: dict[str, str]) -> int:
            return (await healer.client.post("/alerts", data=BytesIO(body), headers=headers)).status

        assert await answer(b'{"version": "4", "alerts": []}', right) == 200
        assert await answer(b'{"version": "4", "alerts": []}', {}) == 401
        assert await answer(b'{"version": "4", "alerts": []}', {"Authorization": "Bearer wrong"}) == 401
        assert await answer(b"{", right) == 400
        assert await answer(b'{"version": "5", "alerts": []}', right) == 400
        assert await answer(b" " * (LARGEST_BODY + 1), right) == 413
        (tmp_path / "token").unlink()
        assert await answer(b'{"version": "4", "alerts": []}', right) == 503
    web = next(text for file, text in SOURCES.items() if file.name == "web.py")
    assert "hmac.compare_digest" in web
    assert not re.search(r"(==|!=) *token|token *(==|!=)", web)


async def test_webhook_ack_does_not_wait_for_a_database(databases: Stack) -> None:
    """The answer is there while every server hangs; aiohttp's client would wait for five minutes."""
    databases.primary.pause_all()
    databases.standby.pause_all()
    try:
        async with healing(watched(databases)) as healer, asyncio.timeout(LOOK_SECONDS):
            assert await healer.post(alert("hung")) == (200, "started=1")
    finally:
        databases.primary.resume_all()
        databases.standby.resume_all()


LOOK_SECONDS = 5.0
"""Shorter than any look or call may take when servers hang."""


async def test_healers_own_death_is_visible_up_last_webhook_timestamp_heartbeat_path(databases: Stack) -> None:
    """An alert without the heal label, as a heartbeat is, is taken with 200 and moves the timestamp."""
    async with healing(watched(databases)) as healer:
        before = await healer.value("pgslot_heal_last_webhook_timestamp_seconds")
        assert before is not None
        heartbeat = alert("") | {"labels": {"alertname": "PgSlotWatchdog"}}
        assert await healer.post(heartbeat) == (200, "ignored_no_heal_label=1")
        after = await healer.value("pgslot_heal_last_webhook_timestamp_seconds")
        assert after is not None
        assert after > before
        refused = await healer.client.post("/alerts", data=b"{")
        assert refused.status == 400
        assert await healer.value("pgslot_heal_last_webhook_timestamp_seconds") == after


BOXES_ELSEWHERE = {
    "budgets: attempts cap, longer-window cap, flapping": "test_flapping_does_not_reset_the_budget_of_the_hour",
    "global blast-radius budget": "test_clusters_at_once",
    "queue bounded, full, 503, not remembered as seen": "test_a_full_episode_refuses_and_forgets_nothing",
    "kill switch": "test_kill_switch_without_redeploy_global_and_per_target_with_reason",
    "silence": "test_am_silence_honoured_mid_flight_and_taken_up_again_when_it_ends",
    "two replicas": "test_several_make_no_more_calls_than_one",
    "clears itself": "test_the_gauge_clears_itself_after_the_grant",
}


@pytest.mark.parametrize("name", BOXES_ELSEWHERE.values(), ids=BOXES_ELSEWHERE.keys())
def test_the_boxes_in_other_files_are_there(name: str) -> None:
    texts = [file.read_text("utf-8") for file in Path(__file__).parent.glob("test_healer_*.py")]
    assert any(f"def {name}(" in text for text in texts)

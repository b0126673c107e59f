"""
The safety checklist of healers, box by box, its second half (stop, prove): see tests/healer/episodes/test_safety.py.
"""

import asyncio
import inspect
import re
import signal
from contextlib import ExitStack
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
import requests

from healer.remedies.attempt import Act
from healer.remedies.force_snapshot.connection import RecordConnection
from healer.remedies.progress import Outcome
from healer.webhook import endpoint
from healer.webhook.body import MAX_BODY_BYTES
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, HealerSettings, Node
from tests.support.hanging_creations import blocked_creation, hanging_creation
from tests.support.running_healer import (
    QUICK,
    alert,
    has_called,
    healer_config,
    healing,
    nothing_left_behind,
    to_primary,
    usable,
    watched,
    write_healer_config,
)
from tests.support.servers.processes import free_port, wait_for
from tests.support.servers.programs import Program
from tests.support.servers.proxy import Fault, Proxy
from tests.support.servers.stack import Stack

# Stop


async def test_give_up_is_a_state_with_metric_not_silence(databases: Stack) -> None:
    with blocked_creation(databases, "given_up"):
        async with healing(watched(databases), settings=replace(QUICK, give_up_after=4.0)) as healer:
            await healer.post(alert("given_up"))
            await healer.until("it runs", has_called)
            assert await healer.value("pgslot_heal_episode_start_timestamp_seconds", cluster="c") is not None
            assert (await healer.ended())["outcome"] == "gave_up"
            assert await healer.value("pgslot_heal_episodes_total", cluster="c", outcome="gave_up") == 1
            assert await healer.value("pgslot_heal_episode_start_timestamp_seconds", cluster="c") is None


async def test_resolved_stops_the_loop_but_is_not_counted_as_success(databases: Stack) -> None:
    with blocked_creation(databases, "resolved"):
        async with healing(watched(databases)) as healer:
            await healer.post(alert("resolved"))
            await healer.until("it has called", has_called)
            await healer.post(alert("resolved", firing=False))
            assert (await healer.ended())["outcome"] == "cancelled"
            assert await healer.value("pgslot_heal_episodes_total", cluster="c", outcome="healed") == 0


def test_sigterm_stop_accepting_finish_or_cancel_the_one_query_exit_within_grace_period_no_half_written_state(
    databases: Stack, tmp_path: Path
) -> None:
    write_healer_config(tmp_path / "pgslot.yml", databases)
    program = Program("pg-slot-healer", tmp_path / "pgslot.yml", tmp_path)
    program.start()
    with blocked_creation(databases, "terminated"):
        requests.post(f"{program.url}/alerts", json={"version": "4", "alerts": [alert("terminated")]}, timeout=10)
        wait_for(lambda: has_called(program.get_json("/episodes")), "it has called")
        assert program.process.stop(signal.SIGTERM, timeout=12) == 0
        with pytest.raises(requests.ConnectionError):
            program.get("/-/ready")
        wait_for(lambda: nothing_left_behind(databases.primary, databases.standby), "nothing is left behind")
    assert [line["outcome"] for line in program.log_events() if line["msg"] == "episode ended"] == ["cancelled"]


async def test_while_it_shuts_down_readiness_is_false_and_webhooks_get_503(databases: Stack) -> None:
    async with healing(watched(databases)) as healer:
        assert healer.client.app is not None
        await healer.client.app.shutdown()
        assert (await healer.client.get("/-/ready")).status == 503
        assert (await healer.post(alert("late")))[0] == 503
        assert await healer.episodes() == []


async def test_restart_state_rebuilt_from_pg_cooldown_restarts_conservatively(databases: Stack) -> None:
    """What is left of the hour's calls is a tenth after a start, and what has healed meanwhile is not healed again."""
    with hanging_creation(databases, "restarted") as creator:
        for _ in range(3):
            settings = replace(QUICK, calls_per_hour=100)
            async with healing(watched(databases), settings=settings) as healer:
                assert await healer.value("pgslot_heal_calls_remaining", cluster="c", budget="hour") == 10
                await healer.post(alert("restarted"))
                await healer.ended()
                last = await healer.ended()
        assert creator.wait(5)
    assert (last["outcome"], last["calls"]) == ("resolved_itself", 0)


# Prove


async def test_idempotent_calling_twice_is_harmless_each_call_costs_one_small_wal_record_count_them(
    databases: Stack,
) -> None:
    with databases.quiet():
        before = databases.primary.lsn()
        async with RecordConnection(healer_config(to_primary(databases.primary))) as primary:
            for _ in range(10):
                assert (await primary.act(Act(0.0))).result == "ok"
        assert databases.primary.lsn() - before <= 10 * 64


async def test_verify_by_independent_read_slot_exists_confirmed_flush_lsn_not_null(databases: Stack) -> None:
    """By the nodes' own conninfo, not on the session that acts. A creation that ends is final: no hold time."""
    with hanging_creation(databases, "verified") as creator:
        async with healing(watched(databases)) as healer:
            await healer.post(alert("verified"))
            assert (await healer.ended())["outcome"] == "healed"
            assert usable(databases.standby, "verified")
        assert creator.wait(5)


def test_outcome_enumerated() -> None:
    assert set(Outcome) == {
        *(
            "healed",
            "resolved_itself",
            "no_effect",
            "gave_up",
            "unavailable",
            "cancelled",
            "dry_run",
            "refused",
            "error",
        )
    }


async def test_missing_capability_is_its_own_state_not_failure_unknown_is_not_unavailable(databases: Stack) -> None:
    """The series are absent until the first check has ended."""
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
        target = healer_config(nowhere.text)
        async with healing(Cluster("hung", (Node("hung", "n", nowhere),), target), watched(databases)) as healer:
            await healer.post(alert("x", cluster="hung", node="n"), alert("other"))
            await healer.until(
                "the other is healed", lambda episodes: [e for e in episodes if e["outcome"] == "healed"]
            )
            assert creator.wait(5)
            monkeypatch.setattr("healer.episodes.loop.evaluate", _fail)
            await healer.post(alert("internal_error"))
            await healer.until(
                "the internal error is an outcome", lambda episodes: [e for e in episodes if e["outcome"] == "error"]
            )
            assert (await healer.client.get("/-/healthy")).status == 200


def _fail(*_: object) -> None:
    raise RuntimeError("an internal error")


async def test_webhook_401_on_bad_auth_413_over_size_400_on_bad_json_version_5xx_only_when_a_retry_can_help(
    tmp_path: Path,
) -> None:
    """The comparison of tokens takes the same time for every token: hmac.compare_digest."""
    (tmp_path / "token").write_text("right")
    settings = HealerSettings(webhook_token_file=tmp_path / "token")
    nowhere = Conninfo(f"host=127.0.0.1 port={free_port()} user=x")
    cluster = Cluster("c", (Node("c", "standby", nowhere),), healer_config(nowhere.text))
    right = {"Authorization": "Bearer right"}
    async with healing(cluster, settings=settings) as healer:

        async def answer(body: bytes, headers: dict[str, str]) -> int:
            return (await healer.client.post("/alerts", data=BytesIO(body), headers=headers)).status

        assert await answer(b'{"version": "4", "alerts": []}', right) == 200
        assert await answer(b'{"version": "4", "alerts": []}', {}) == 401
        assert await answer(b'{"version": "4", "alerts": []}', {"Authorization": "Bearer wrong"}) == 401
        assert await answer(b"{", right) == 400
        assert await answer(b'{"version": "5", "alerts": []}', right) == 400
        assert await answer(b" " * (MAX_BODY_BYTES + 1), right) == 413
        (tmp_path / "token").unlink()
        assert await answer(b'{"version": "4", "alerts": []}', right) == 503
    source = inspect.getsource(endpoint)
    assert "hmac.compare_digest" in source
    assert not re.search(r"(==|!=) *token|token *(==|!=)", source)


async def test_webhook_ack_does_not_wait_for_a_database(databases: Stack) -> None:
    """The answer is there while every server hangs; aiohttp's client would wait for five minutes."""
    databases.primary.pause_all()
    databases.standby.pause_all()
    try:
        async with healing(watched(databases)) as healer, asyncio.timeout(ANSWER_SECONDS):
            assert await healer.post(alert("hung")) == (200, "started=1")
    finally:
        databases.primary.resume_all()
        databases.standby.resume_all()


ANSWER_SECONDS = 5.0
"""Not longer than a snapshot or call may take when servers hang."""


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

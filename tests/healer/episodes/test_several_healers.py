"""Two or three healers on the same alerts, as processes of their own, make no more calls than one."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import pytest
import requests
import yaml

from tests.support.running_healer import alert, nothing_left_behind, to_primary, usable
from tests.support.servers.processes import wait_for
from tests.support.servers.programs import Program
from tests.support.servers.stack import EXPORTER_ROLE, Stack


@contextmanager
def replicas(stack: Stack, folder: Path, count: int) -> Iterator[list[Program]]:
    servers = (stack.primary, stack.standby)
    nodes = {server.name: {"conninfo": server.conninfo(EXPORTER_ROLE)} for server in servers}
    config = {
        "clusters": {"c": {"nodes": nodes, "healer": {"conninfo": to_primary(*servers)}}},
        "healer": {"burst_interval": "200ms", "interval": "1s", "calls_per_hour": 10000},
    }
    (folder / "pgslot.yml").write_text(yaml.safe_dump(config))
    with ExitStack() as running:
        programs = []
        for i in range(count):
            (folder / str(i)).mkdir()
            program = Program("pg-slot-healer", folder / "pgslot.yml", folder / str(i))
            running.callback(program.stop)
            program.start()
            programs.append(program)
        yield programs


def send_alert(healer: Program, slot: str) -> None:
    body = {"version": "4", "alerts": [alert(slot)]}
    assert requests.post(f"{healer.url}/alerts", json=body, timeout=10).status_code == 200


BURST_INTERVAL = 0.2


def call_times(healers: list[Program]) -> list[float]:
    """Return the Unix times of all their calls; they share one clock."""
    lines = [line for healer in healers for line in healer.log_events() if line["msg"].startswith("called ")]
    return [datetime.fromisoformat(line["ts"]).timestamp() for line in lines]


def calls(healer: Program, result: str = "ok") -> int:
    return int(healer.value("pgslot_heal_calls_total", cluster="c", result=result) or 0)


def outcome(healer: Program) -> str | None:
    episodes = healer.get_json("/episodes")
    return episodes[0]["outcome"] if episodes else None


@pytest.mark.parametrize("count", [2, 3])
def test_several_healers_make_no_more_calls_than_one(databases: Stack, tmp_path: Path, count: int) -> None:
    """All of them get the same alert twice, as from two Alertmanagers."""
    slot = f"replicas_{count}"
    with databases.quiet(), replicas(databases, tmp_path, count) as healers:
        with databases.primary.hold_transaction() as holder, databases.standby.create_slot(slot) as creator:
            for healer in [*healers, *healers]:
                send_alert(healer, slot)
            wait_for(lambda: sum(map(calls, healers)) >= 3, "three calls")
            acting = [healer for healer in healers if calls(healer)]
            assert len(acting) == 1, "one healer acts, and the others are locked out"
            wait_for(
                lambda: all(calls(healer, "locked") for healer in healers if healer not in acting), "they have tried"
            )
            locks = databases.primary.sql("SELECT 1 FROM pg_catalog.pg_locks WHERE locktype = 'advisory'")
            assert locks == [], "the lock is held only during a call"
            holder.commit()
            assert creator.wait(30)
        wait_for(lambda: all(outcome(healer) for healer in healers), "all episodes have ended")
        # After the transaction has ended, the first healer that observes this goes on calling.
        apart = [later - earlier for earlier, later in itertools.pairwise(sorted(call_times(healers)))]
        assert min(apart) >= BURST_INTERVAL * 0.9
        idle = [healer for healer in healers if not calls(healer)]
        assert {outcome(healer) for healer in idle} <= {"resolved_itself"}
        whys = {healer.get_json("/episodes")[0]["why"] for healer in idle}
        assert whys <= {"no call of ours: another healer acted"}
        wait_for(lambda: nothing_left_behind(databases.primary, databases.standby), "no session and no lock is left")


def test_another_healer_finishes_when_the_acting_one_is_killed(databases: Stack, tmp_path: Path) -> None:
    with databases.quiet(), replicas(databases, tmp_path, 2) as healers:
        with databases.primary.hold_transaction() as holder, databases.standby.create_slot("orphan") as creator:
            for healer in healers:
                send_alert(healer, "orphan")
            wait_for(lambda: any(map(calls, healers)), "one acts")
            [acting] = [healer for healer in healers if calls(healer)]
            [other] = [healer for healer in healers if healer is not acting]
            wait_for(lambda: calls(other, "locked"), "the other is locked out")
            acting.process.kill()
            wait_for(lambda: calls(other), "the other acts now")
            holder.commit()
            assert creator.wait(30)
        wait_for(lambda: outcome(other), "its episode has ended")
        assert outcome(other) == "healed"
        assert usable(databases.standby, "orphan")
        wait_for(lambda: nothing_left_behind(databases.primary, databases.standby), "no session and no lock is left")

"""`heal` and `replay`, as functions and as a person runs them, on real servers."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from healer.commands.heal import heal_cluster
from healer.commands.manual_episode import NOTHING_TO_HEAL, Exit
from healer.commands.replay import replay_file
from healer.webhook.payload import Action
from healer.webhook.reasons import REASONS
from pgslot.cli.errors import ConfigError
from pgslot.config.model import Cluster, Config
from tests.support.running_healer import QUICK, alert, to_primary, until, usable, watched
from tests.support.servers.processes import free_port
from tests.support.servers.programs import run_healer
from tests.support.servers.stack import EXPORTER_ROLE, HEALER_ROLE, POWERLESS_ROLE, Stack

Capture = pytest.CaptureFixture[str]


def config(*clusters: Cluster) -> Config:
    return Config(clusters, QUICK)


async def healed(config: Config, cluster: str = "c", **options: Any) -> Exit:
    given = {"dry_run": False, "give_up_after": 10.0, "as_json": False} | options
    return await heal_cluster(config, cluster, **given)


async def test_heal_finds_a_waiting_slot_and_heals_it(databases: Stack, capsys: Capture) -> None:
    with databases.quiet(), databases.standby.create_slot("by_hand") as creator:
        assert await healed(config(watched(databases))) is Exit.HEALED
        assert creator.wait(5)
    output = capsys.readouterr().out
    assert output.startswith(
        "c: asking the primary whether a call is possible\nc: can heal\nc: reading the slots of standby, primary\n"
    )
    assert "slot by_hand: waiting for running_xacts" in output
    assert "healed: usable after our call" in output
    databases.drop_slot("by_hand")


async def test_heal_says_that_there_is_nothing_to_heal(databases: Stack, capsys: Capture) -> None:
    assert await healed(config(watched(databases))) is Exit.HEALED
    assert NOTHING_TO_HEAL in capsys.readouterr().out


async def test_heal_gives_up_in_time(databases: Stack, capsys: Capture) -> None:
    with databases.quiet(), databases.primary.hold_transaction(), databases.standby.create_slot("blocked"):
        assert await healed(config(watched(databases)), give_up_after=4.0) is Exit.NOT_HEALED
    assert "gave_up: still waiting: transaction" in capsys.readouterr().out
    databases.drop_slot("blocked")


async def test_heal_says_within_two_seconds_what_it_waits_for(databases: Stack, capsys: Capture) -> None:
    """On a primary no call helps a creation, so that no line comes from calls."""
    with databases.primary.hold_transaction(), databases.primary.create_slot("silent"):
        await until(lambda: in_creation(databases, "silent"), "the creation waits")
        assert await healed(config(watched(databases)), give_up_after=3.0) is Exit.NOT_HEALED
    times = re.findall(r"^ +(\d\.\d\d) s  (.*)", capsys.readouterr().out, re.MULTILINE)
    [progress] = [i for i, (_, text) in enumerate(times) if text.startswith("still working: silent waiting for")]
    assert float(times[progress][0]) - float(times[progress - 1][0]) < 2.0
    databases.drop_slot("silent")


def in_creation(stack: Stack, slot: str) -> bool:
    query = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s AND active_pid IS NOT NULL"
    return bool(stack.primary.sql(query, [slot]))


async def test_control_characters_in_names_are_escaped(databases: Stack, capsys: Capture) -> None:
    """The gid of a prepared transaction may contain control characters, and so may labels."""
    gid = "E'\\x1b]0;owned\\x07\\x1b[2Jgid'"
    databases.primary.sql_in_one_transaction("SELECT pg_catalog.pg_current_xact_id()", f"PREPARE TRANSACTION {gid}")
    try:
        with databases.standby.create_slot("named"):
            await until(lambda: waits_for_a_second(databases, "named"), "it waits")
            assert await healed(config(watched(databases)), give_up_after=3.0) is Exit.NOT_HEALED
    finally:
        databases.primary.sql(f"ROLLBACK PREPARED {gid}")
    output = capsys.readouterr().out
    assert "application=\\x1b]0;owned\\x07\\x1b[2Jgid" in output
    assert all(line.isprintable() for line in output.splitlines())
    databases.drop_slot("named")


def waits_for_a_second(stack: Stack, slot: str) -> bool:
    """Return whether the creation has waited long enough for its blocker to be named."""
    query = (
        "SELECT 1 FROM pg_catalog.pg_replication_slots s JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid"
        " WHERE s.slot_name = %s AND a.query_start < pg_catalog.clock_timestamp() - interval '1 s'"
    )
    return bool(stack.standby.sql(query, [slot]))


async def test_heal_without_the_privilege_says_what_to_do(databases: Stack, capsys: Capture) -> None:
    powerless = watched(databases, conninfo=to_primary(databases.primary, role=POWERLESS_ROLE))
    with databases.quiet(), databases.standby.create_slot("powerless"):
        assert await healed(config(powerless)) is Exit.UNAVAILABLE
        assert await healed(config(powerless), dry_run=True) is Exit.UNAVAILABLE
    output = capsys.readouterr().out
    assert "cannot heal: missing_privilege" in output
    assert "GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot()" in output
    databases.drop_slot("powerless")


async def test_dry_run_writes_nothing(databases: Stack, capsys: Capture) -> None:
    with databases.quiet(), databases.standby.create_slot("dry") as creator:
        assert await healed(config(watched(databases)), dry_run=True, as_json=True) is Exit.NOT_HEALED
        assert not creator.done
    result = json.loads(capsys.readouterr().out)
    assert (result["exit"], result["episode"]["outcome"], result["episode"]["calls"]) == (1, "dry_run", 0)
    databases.drop_slot("dry")


async def test_heal_respects_the_kill_switch(databases: Stack, capsys: Capture) -> None:
    off = watched(databases, enabled=False, disabled_reason="CHG-7")
    assert await healed(config(off)) is Exit.UNAVAILABLE
    assert "healing is switched off: enabled: false in the configuration (CHG-7)." in capsys.readouterr().out


async def test_heal_does_not_say_that_nothing_waits_on_a_node_that_it_could_not_read(
    databases: Stack, capsys: Capture
) -> None:
    cluster = watched(databases)
    nowhere = replace(cluster.nodes[0].conninfo, text=f"host=127.0.0.1 port={free_port()} user=x")
    unreachable = replace(cluster, nodes=(replace(cluster.nodes[0], conninfo=nowhere), *cluster.nodes[1:]))
    assert await healed(config(unreachable)) is Exit.UNAVAILABLE
    output = capsys.readouterr().out
    assert "node standby: could not be read: unreachable" in output
    assert "nothing to heal on primary; whether a slot waits on standby is unknown" in output
    assert NOTHING_TO_HEAL not in output
    blind = replace(cluster, nodes=tuple(replace(node, conninfo=nowhere) for node in cluster.nodes))
    assert await healed(config(blind), as_json=True) is Exit.UNAVAILABLE
    result = json.loads(capsys.readouterr().out)
    assert result["unread_nodes"] == {"standby": "unreachable", "primary": "unreachable"}


async def test_heal_refuses_an_unknown_cluster_and_one_without_a_healer_section(databases: Stack) -> None:
    with pytest.raises(ConfigError, match="expected one of the clusters c, found 'd'"):
        await healed(config(watched(databases)), "d")
    with pytest.raises(ConfigError, match=r"clusters\.c: expected a healer section, found none"):
        await healed(config(replace(watched(databases), healer=None)))


def saved(folder: Path, *alerts: dict[str, Any]) -> Path:
    file = folder / "webhook.json"
    file.write_text(json.dumps({"version": "4", "status": "firing", "alerts": list(alerts)}))
    return file


async def replayed(
    config: Config, file: Path, capsys: Capture, *, offline: bool = False
) -> tuple[int, list[dict[str, str]]]:
    capsys.readouterr()
    code = await replay_file(config, file, offline=offline, as_json=True)
    return code, json.loads(capsys.readouterr().out)


async def test_replay_prints_a_decision_and_a_reason_for_each_alert(
    databases: Stack, tmp_path: Path, capsys: Capture
) -> None:
    off = watched(databases, "off", enabled=False)
    only = replace(watched(databases, "only"), healer=None)
    powerless = watched(databases, "powerless", conninfo=to_primary(databases.primary, role=POWERLESS_ROLE))
    fallback = watched(
        databases, "fallback", conninfo=to_primary(databases.primary, role=POWERLESS_ROLE), fallback=True
    )
    dry = watched(databases, "dry", dry_run=True)
    alerts = [
        alert("waits"),
        alert("gone"),
        alert("waits", firing=False),
        alert("waits", cluster="powerless"),
        alert("waits", cluster="fallback"),
        alert("waits", cluster="dry"),
        alert("waits", cluster="off"),
        alert("waits", cluster="only"),
        alert("waits", cluster="elsewhere"),
        alert("waits", node="elsewhere"),
        alert(""),
        alert("waits") | {"labels": {"alertname": "Other"}},
    ]
    with databases.quiet(), databases.standby.create_slot("waits") as creator:
        file = saved(tmp_path, *alerts)
        clusters = (watched(databases), off, only, powerless, fallback, dry)
        while True:
            code, decisions = await replayed(config(*clusters), file, capsys)
            # The healer acts only on creations that are at least a second old.
            if decisions[0]["would"] != "wait":
                break
        assert not creator.done
    assert code == 1
    assert [decision["would"] for decision in decisions] == [
        *("call", "nothing", "end", "fail", "message", "nothing", "ignore", "fail", "fail", "fail", "fail", "ignore")
    ]
    assert decisions[0]["why"] == "the slot is waiting for running_xacts: pg_log_standby_snapshot() on the primary"
    assert (
        decisions[1]["why"] == "the slot is dropped: resolved_itself (gone: no call was needed when the healer looked)"
    )
    assert "missing_privilege" in decisions[3]["why"]
    assert decisions[5]["why"].endswith("dry_run (would have called pg_log_standby_snapshot())")
    assert not usable(databases.standby, "waits")
    databases.drop_slot("waits")


async def test_replay_offline_asks_no_database(tmp_path: Path, databases: Stack, capsys: Capture) -> None:
    nowhere = watched(databases, conninfo=f"host=127.0.0.1 port={free_port()} user=x")
    code, [decision] = await replayed(config(nowhere), saved(tmp_path, alert("s")), capsys, offline=True)
    assert (code, decision["would"]) == (0, "start")


async def test_replay_reads_what_alertmanagers_api_lists(tmp_path: Path, databases: Stack, capsys: Capture) -> None:
    """The answer of GET /api/v2/alerts: no webhook has to be saved first."""
    listed = [alert("s") | {"status": {"state": "active", "silencedBy": []}}, alert("s", cluster="d") | {"status": {}}]
    (tmp_path / "alerts.json").write_text(json.dumps(listed))
    code, decisions = await replayed(config(watched(databases)), tmp_path / "alerts.json", capsys, offline=True)
    assert (code, [decision["would"] for decision in decisions]) == (1, ["start", "fail"])
    (tmp_path / "alerts.json").write_text("[[]]")
    with pytest.raises(ConfigError, match=r"alerts\[0\]: expected an object, found an array"):
        await replayed(config(watched(databases)), tmp_path / "alerts.json", capsys)


async def test_replay_refuses_a_file_that_is_not_a_webhook(tmp_path: Path, databases: Stack) -> None:
    (tmp_path / "bad.json").write_text('{"version": "3"}')
    with pytest.raises(ConfigError, match=r"bad\.json: version: expected"):
        await replay_file(config(watched(databases)), tmp_path / "bad.json", offline=True, as_json=False)
    with pytest.raises(ConfigError, match=r"absent\.json: expected a readable file"):
        await replay_file(config(watched(databases)), tmp_path / "absent.json", offline=True, as_json=False)


def test_replay_has_a_reason_for_each_ignored_action() -> None:
    ignored = {action for action in Action if action.startswith("ignored")} - {Action.IGNORED_RESOLVED}
    assert set(REASONS) == ignored | {Action.HEARTBEAT}


def test_heal_and_replay_from_the_command_line(databases: Stack, tmp_path: Path) -> None:
    nodes = {s.name: {"conninfo": s.conninfo(EXPORTER_ROLE)} for s in (databases.primary, databases.standby)}
    target = {"conninfo": databases.primary.conninfo(HEALER_ROLE)}
    file = tmp_path / "pgslot.yml"
    file.write_text(yaml.safe_dump({"clusters": {"c": {"nodes": nodes, "healer": target}}}))
    done = run_healer(f"--config.file={file}", "heal", "c")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"{NOTHING_TO_HEAL}\n")
    assert json.loads(run_healer(f"--config.file={file}", "heal", "c", "--json", "--dry-run").stdout)["exit"] == 0
    unknown = run_healer(f"--config.file={file}", "heal", "d")
    assert unknown.returncode == 2
    assert unknown.stderr == "pg-slot-healer: command line: expected one of the clusters c, found 'd'\n"
    done = run_healer(f"--config.file={file}", "replay", str(saved(tmp_path, alert("s"), alert("s", cluster="d"))))
    assert done.returncode == 1
    assert "alerts[0]  nothing PgSlotCreationStuck c/standby/s\n" in done.stdout
    assert "alerts[1]  fail    PgSlotCreationStuck d/standby/s\n" in done.stdout
    assert run_healer(f"--config.file={file}", "replay", str(file)).returncode == 2

"""The remedy end_transaction outside the loop: replay, doctor, a pooler, odd names, series."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from healer.app import EPISODES, MONITOR
from healer.commands.grants import ENDER_ROLE
from healer.commands.replay import replay_file
from healer.doctor.checks.servers import check_servers
from healer.doctor.checks.shipped_rules import alerts_for_healer
from healer.doctor.result import CheckStatus
from healer.remedies.attempt import AttemptResult, Unavailable
from healer.remedies.registry import END_TRANSACTION
from healer.remedies.terminate.blocking_transaction import BlockingTransaction
from healer.remedies.terminate.connection import Terminate, TerminationConnection
from healer.remedies.terminate.progress import TerminationTarget
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, TerminationConfig
from tests.support.blocking_transactions import (
    APPLICATION,
    POLICY,
    USER,
    alive,
    blocking_creation,
    blocking_transaction,
    cluster_with_termination,
    endangered_alert,
    holding,
    set_up_roles,
    terminating,
)
from tests.support.fakes.monitoring import FakeMonitoring
from tests.support.fakes.monitoring_faults import assert_named
from tests.support.running_healer import QUICK, alert, healing, to_primary, watched
from tests.support.servers.pooler import Pooler
from tests.support.servers.stack import Stack


@pytest.fixture
def ready(databases: Stack) -> None:
    set_up_roles(databases.primary)


async def replayed(cluster: Cluster, folder: Path, capsys: pytest.CaptureFixture[str], slot: str) -> dict[str, str]:
    file = folder / "webhook.json"
    file.write_text(json.dumps({"version": "4", "alerts": [endangered_alert(slot)]}))
    capsys.readouterr()
    await replay_file(Config((cluster,), QUICK), file, offline=False, as_json=True)
    [decision] = json.loads(capsys.readouterr().out)
    return {name: decision[name] for name in ("would", "why")}


@pytest.mark.usefixtures("ready")
async def test_replay_reports_what_it_would_do(
    databases: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    primary = databases.primary
    with blocking_creation(primary, "replayed") as victim:
        decision = await replayed(cluster_with_termination(databases), tmp_path, capsys, "replayed")
        assert decision["would"] == "call"
        assert decision["why"].startswith("the slot is waiting for transaction: the blocking transaction is ended on")
        dry = await replayed(
            cluster_with_termination(databases, replace(POLICY, dry_run=True)), tmp_path, capsys, "replayed"
        )
        assert dry["why"].endswith("(dry run: it would only report that)")
        off = await replayed(watched(databases), tmp_path, capsys, "replayed")
        assert off == {
            "would": "ignore",
            "why": "its remedy is off by default, and the cluster has no section that allows it",
        }
        assert alive(primary, victim.info.backend_pid)
    primary.drop_slot("replayed")
    gone = await replayed(cluster_with_termination(databases), tmp_path, capsys, "replayed")
    assert gone["would"] == "nothing"


@pytest.mark.usefixtures("ready")
async def test_doctor_checks_the_role(databases: Stack) -> None:
    findings = await check_servers(Config((cluster_with_termination(databases),), QUICK))
    [finding] = [result for result in findings if result.subject == "c, end_transaction"]
    assert (finding.check, finding.status) == ("capability", CheckStatus.OK)
    assert finding.found == f"can act as {ENDER_ROLE} in database postgres"
    [same] = [finding for finding in findings if finding.check == "same cluster"]
    assert same.found.startswith("system identifier ")
    databases.primary.sql(f"REVOKE pg_signal_backend FROM {ENDER_ROLE}")
    try:
        findings = await check_servers(Config((cluster_with_termination(databases),), QUICK))
        [finding] = [result for result in findings if result.subject == "c, end_transaction"]
        assert (finding.status, finding.advice) == (CheckStatus.FAILED, f'GRANT pg_signal_backend TO "{ENDER_ROLE}";')
    finally:
        set_up_roles(databases.primary)
    dry = cluster_with_termination(databases, replace(POLICY, dry_run=True))
    [finding] = [
        result
        for result in await check_servers(Config((dry,), QUICK))
        if result.subject == "c, end_transaction" and result.check == "capability"
    ]
    assert (finding.status, "dry_run: true" in finding.found) == (CheckStatus.WARNING, True)


def test_doctor_expects_the_alert_only_where_the_remedy_is_configured(monitoring: FakeMonitoring) -> None:
    plain = monitoring.config.clusters[0]
    assert plain.healer is not None
    allowed = replace(
        plain,
        name="allowed",
        healer=replace(plain.healer, termination=TerminationConfig(Conninfo("user=ender"), POLICY)),
    )
    wanted = [
        alert["cluster"]
        for alert in alerts_for_healer(Config((plain, allowed), QUICK))
        if alert["alertname"] == "PgSlotEndangeredByTransaction"
    ]
    assert wanted == ["allowed"] * len(plain.nodes)


def test_doctor_names_the_missing_route(monitoring: FakeMonitoring) -> None:
    """As in a configuration of Alertmanager from before this remedy."""

    def change(monitoring: FakeMonitoring) -> None:
        plain = monitoring.config.clusters[0]
        assert plain.healer is not None
        healer = replace(plain.healer, termination=TerminationConfig(Conninfo("user=ender"), POLICY))
        monitoring.config = replace(monitoring.config, clusters=(replace(plain, healer=healer),))
        monitoring.routing["route"]["routes"][0]["matchers"] = ['heal="log_standby_snapshot"']

    text = "in /alerts; for c/n1, it goes only to nobody; for c/n2, it goes only to nobody"
    assert_named(monitoring, change, [("route", "PgSlotEndangeredByTransaction", "failed", text)])


@pytest.mark.usefixtures("ready")
async def test_no_session_is_terminated_through_a_pooler(databases: Stack) -> None:
    """Not in session mode either: settings made through a pooler may not last."""
    primary = databases.primary
    for mode in ("session", "transaction"):
        with Pooler(primary, databases.folder, mode) as pooler, holding(primary) as victim:
            target = terminating(f"host=127.0.0.1 port={pooler.port} dbname=postgres user={ENDER_ROLE}")
            assert (await END_TRANSACTION.check(target)).reason is Unavailable.POOLER
            pid = victim.info.backend_pid
            async with TerminationConnection(target, idle_timeout=60) as connection:
                call = await connection.act(Terminate(1.0, TerminationTarget(blocking_transaction(primary, pid), 0.0)))
            assert call.result is AttemptResult.UNAVAILABLE
            assert call.capability is not None
            assert call.capability.reason is Unavailable.POOLER
            assert alive(primary, pid)


ODD = "Bücher \"x\" \\ 'y' [1]"


@pytest.mark.usefixtures("ready")
async def test_application_names_are_compared_literally(databases: Stack) -> None:
    primary = databases.primary
    with psycopg.connect(primary.conninfo(USER)) as victim:
        victim.execute("SELECT pg_catalog.set_config('application_name', %s, false)", [ODD])
        victim.execute("SELECT pg_catalog.pg_current_xact_id()")
        shown = primary.sql(
            "SELECT application_name FROM pg_catalog.pg_stat_activity WHERE pid = %s", [victim.info.backend_pid]
        )[0][0]
        blocker = blocking_transaction(primary, victim.info.backend_pid)
        assert await refusal(databases, blocker, (shown,)) in ("too_young", None)
        assert await refusal(databases, blocker, (shown.replace("x", "."),)) == "application_not_allowed"
        assert await refusal(databases, blocker, (".*",)) == "application_not_allowed"
        assert await refusal(databases, blocker, (APPLICATION,)) == "application_not_allowed"


async def refusal(stack: Stack, blocker: BlockingTransaction, applications: tuple[str, ...]) -> Any:
    policy = replace(POLICY, applications=applications)
    target = terminating(to_primary(stack.primary, role=ENDER_ROLE), policy)
    async with TerminationConnection(target, idle_timeout=60) as connection:
        return (await connection.act(Terminate(1.0, TerminationTarget(blocker, 0.0)))).refusal


async def test_both_remedies_of_a_cluster_count_as_one_cluster(databases: Stack) -> None:
    """With `clusters_at_once: 1`, the second episode of the same cluster is accepted."""
    one = replace(QUICK, clusters_at_once=1)
    other = replace(cluster_with_termination(databases), name="other")
    async with healing(cluster_with_termination(databases), other, settings=one) as healer:
        assert await healer.post(alert("s"), endangered_alert("s"), alert("s", cluster="other")) == (
            503,
            "started=2 refused_budget=1",
        )
        assert {episode["remedy"] for episode in await healer.episodes()} == {"log_standby_snapshot", "end_transaction"}


async def test_series_disappear_with_the_section(databases: Stack) -> None:
    async with healing(cluster_with_termination(databases)) as healer:
        assert healer.client.app is not None
        labels = {"cluster": "c", "remedy": "end_transaction"}
        assert await healer.value("pgslot_heal_episode_active", **labels) == 0
        assert await healer.value("pgslot_heal_calls_remaining", **labels, budget="hour") == POLICY.at_most_per_hour
        without = Config((watched(databases),), QUICK)
        healer.client.app[EPISODES].reconfigure(without)
        healer.client.app[MONITOR].watch(without.clusters)
        assert await healer.value("pgslot_heal_episode_active", **labels) is None
        assert await healer.value("pgslot_heal_calls_remaining", **labels, budget="hour") is None
        assert await healer.value("pgslot_heal_episode_active", cluster="c") == 0

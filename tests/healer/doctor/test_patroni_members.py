"""The doctor's findings about clusters that are configured by Patroni."""

from pathlib import Path

import pytest

from healer.doctor.checks.patroni_members import judge_members
from healer.doctor.checks.servers import check_servers
from healer.doctor.result import CheckStatus
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerSettings, Node, PatroniConfig
from tests.support.fakes.patroni import written
from tests.support.servers.programs import run_healer

PATRONI = PatroniConfig(("http://10.0.0.1:8008",))
ANSWERED = Cluster(
    "answered", (Node("answered", "a", Conninfo("")), Node("answered", "b", Conninfo(""))), None, PATRONI
)
SILENT = Cluster("silent", (), None, PATRONI)
CONFIG = Config((Cluster("listed", ANSWERED.nodes, None), ANSWERED, SILENT), HealerSettings())


def test_members_are_named_or_why_patroni_gave_none() -> None:
    answered, silent = judge_members(CONFIG, {"silent": "http://10.0.0.1:8008: no answer in 3 s"})
    assert (answered.subject, answered.status, answered.found) == (
        "answered",
        CheckStatus.OK,
        "Patroni lists 2: a, b",
    )
    assert (silent.subject, silent.status) == ("silent", CheckStatus.FAILED)
    assert silent.found == "http://10.0.0.1:8008: no answer in 3 s"
    assert "URLs under patroni" in silent.advice


async def test_cluster_without_members_has_no_other_findings() -> None:
    assert await check_servers(Config((SILENT,), HealerSettings())) == []


@pytest.mark.servers
def test_command_fails_and_names_each_url(tmp_path: Path) -> None:
    file = written(tmp_path, "['http://127.0.0.1:1', 'http://127.0.0.1:2']")
    done = run_healer("doctor", f"--config.file={file}")
    assert done.returncode == 1
    [line] = [line for line in done.stdout.splitlines() if line.split()[1:2] == ["members"]]
    assert line.startswith("FAIL")
    assert "http://127.0.0.1:1: " in line
    assert "; http://127.0.0.1:2: " in line

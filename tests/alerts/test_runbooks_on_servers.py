"""Every block of the runbooks runs: SQL on a primary and a standby in the roles that operators use, and PromQL."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.support.runbooks import RunbookBlock, runbook_blocks
from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import EXPORTER_ROLE, HEALER_ROLE, Stack

pytestmark = pytest.mark.e2e

SLOT = "cdc"
PREPARED = ("order-7", "order-8")
SUPERUSER = "postgres"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack() as stack:
        stack.start_databases()
        stack.start_exporter()
        stack.start_healer()
        stack.start_monitoring()
        yield stack


@pytest.fixture
def slot_and_prepared_transactions(stack: Stack) -> Iterator[None]:
    """Create the slot and the prepared transactions of the runbooks' examples on the primary."""
    primary = stack.primary
    primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')", [SLOT])
    for gid in PREPARED:
        primary.sql_in_one_transaction("SELECT pg_catalog.pg_current_xact_id()", f"PREPARE TRANSACTION '{gid}'")
    yield
    primary.reset()
    for server in (primary, stack.standby):
        server.sql("ALTER SYSTEM RESET ALL")
        server.sql("SELECT pg_catalog.pg_reload_conf()")


def run(server: Postgres, role: str, sql: str) -> None:
    """Run the SQL with psql, as an operator does."""
    done = subprocess.run(
        [server.binaries.tools / "psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", server.conninfo(role)],
        input=sql,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("slot_and_prepared_transactions")
@pytest.mark.parametrize("block", [pytest.param(block, id=block.id) for block in runbook_blocks("sql")])
def test_sql_block_runs_on_its_servers(stack: Stack, block: RunbookBlock) -> None:
    """Diagnosis needs no more than the exporter's role has, as the runbooks say; to list the WAL directory does."""
    servers = {
        "primary": [stack.primary],
        "healer": [stack.primary],
        "standby": [stack.standby],
        "node": [stack.primary, stack.standby],
    }[block.where]
    role = EXPORTER_ROLE if block.section == "Diagnosis" and "pg_ls_waldir" not in block.text else SUPERUSER
    for server in servers:
        run(server, HEALER_ROLE if block.where == "healer" else role, block.text)


@pytest.mark.parametrize("block", [pytest.param(block, id=block.id) for block in runbook_blocks("promql")])
def test_promql_block_is_answered(stack: Stack, block: RunbookBlock) -> None:
    """Every line is a query; an empty result is an answer, too, because nothing is wrong on this stack."""
    for line in block.text.splitlines():
        if line and not line.startswith("```"):
            stack.prometheus.query(line)


def test_runbooks_have_sql_and_promql() -> None:
    assert len(list(runbook_blocks("sql"))) > 30
    assert len(list(runbook_blocks("promql"))) > 10

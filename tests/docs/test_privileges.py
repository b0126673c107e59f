"""Every text that a person reads names the same privileges of the exporter's role, as SQL that runs."""

import pytest

from healer.commands.grants import script
from pgslot.snapshot.privileges import grant, grant_listing
from tests.support.paths import ROOT

NAMES_PG_MONITOR = {
    # They say that pg_monitor is more than is needed, and what to do where less cannot be had.
    "healer/commands/grants.sql",
    # On managed services it is what their administrators may grant.
    "healer/commands/grants_service.sql",
    "healer/commands/service_notes.py",
    "healer/doctor/checks/servers.py",
    "pgslot/snapshot/privileges.py",
    # pg_ls_waldir() needs it.
    "alerts/runbooks/PgSlotLossPredicted.md",
    "alerts/runbooks/PgSlotWalHeadroomLow.md",
}
SUFFIXES = {".json", ".md", ".py", ".sh", ".sql", ".yaml", ".yml"}


def test_grants_prints_the_statement_that_log_and_doctor_advise() -> None:
    printed = script("eyes", "hands")
    assert grant("eyes") in printed
    assert grant_listing("eyes") in printed


@pytest.mark.parametrize("folder", ["alerts", "dashboards", "deploy", "exporter", "healer", "pgslot"])
def test_no_text_asks_for_pg_monitor(folder: str) -> None:
    files = [path for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES and path.is_file()]
    assert files
    naming = {f"{path.relative_to(ROOT)}" for path in files if "pg_monitor" in path.read_text("utf-8")}
    assert naming <= NAMES_PG_MONITOR


def test_readme_does_not_ask_for_pg_monitor() -> None:
    assert "pg_monitor" not in (ROOT / "README.md").read_text("utf-8")

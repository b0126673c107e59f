"""Runbooks have the usual sections and working links, and the commands and metrics that they name exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter import runbooks
from exporter.catalogue import CATALOGUE
from tests.support.alert_rules import ALERT_RULES, ALERTS_TO_HEALER, RECORDING_RULES, each_alert
from tests.support.promql import selectors
from tests.support.runbooks import PARSERS, RUNBOOKS, RunbookBlock, runbook_blocks

SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Prevention"]
SQL_PLACES = {"primary", "standby", "node", "healer"}
"""Where a block of SQL runs: a kind of server, the alert's node of either kind, or the healer's connection."""

DESTRUCTIVE = r"pg_drop_replication_slot|pg_terminate_backend|pg_cancel_backend|ROLLBACK PREPARED|COMMIT PREPARED"

each_runbook = pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem)


def prose(path: Path) -> str:
    """Return a runbook without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


@each_alert
def test_runbook_of_every_alert_has_the_usual_sections(name: str) -> None:
    lines = (RUNBOOKS / f"{name}.md").read_text("utf-8").splitlines()
    assert lines[0] == f"# {name}"
    assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == SECTIONS


def test_runbooks_belong_to_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(ALERT_RULES)
    assert runbooks.runbook_names() == sorted(ALERT_RULES)


@each_runbook
def test_runbook_starts_with_first_steps_and_says_when_to_escalate(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.split("\n")[2].startswith("**First, in 60 seconds:**")
    assert "\n| cause | sign | action | risk |\n" in text
    for heading in ("**What has the healer done?**", "**Verify", "**Escalate"):
        assert heading in text, heading


@each_runbook
def test_links_of_a_runbook_lead_to_existing_runbooks(path: Path) -> None:
    for text, target in re.findall(r"\[([^\]]+)\]\(([^)]+)\)", prose(path)):
        assert (RUNBOOKS / target).is_file(), target
        assert text == Path(target).stem
    for name in re.findall(r"\bPgSlot\w+", path.read_text("utf-8")):
        assert name in ALERT_RULES, name


@each_runbook
def test_served_runbook_page_has_working_links(path: Path) -> None:
    """Links are relative, because the exporter serves /runbooks/ALERT.md as well."""
    page = runbooks.runbook(path.stem)
    assert page is not None
    assert f"<h1>{path.stem}</h1>" in page
    assert "<table>" in page
    back, _, rest = page.partition("</nav>")
    assert re.findall(r'<a href="([^"]+)"', back) == ["../", "../#runbooks"]
    assert all(target.endswith(".md") for target in re.findall(r'<a href="([^"]+)"', rest))


@pytest.mark.parametrize("block", [pytest.param(block, id=block.id) for block in runbook_blocks("sql")])
def test_sql_block_states_where_it_runs(block: RunbookBlock) -> None:
    assert block.where in SQL_PLACES


def test_page_says_above_each_block_where_it_runs() -> None:
    page = runbooks.runbook("PgSlotCreationBlocked")
    assert page is not None
    assert page.count('<p class="place">SQL, on the node of the alert</p>\n<pre tabindex="0"><code>SELECT') == 3
    assert '<p class="place">PromQL, in Prometheus</p>' in page
    assert '<pre class="output" tabindex="0"><code> pg_terminate_backend' in page
    assert {f"sql {place}" for place in SQL_PLACES} == {info for info in runbooks.PLACES if info.startswith("sql")}


@pytest.mark.parametrize("block", [pytest.param(block, id=block.id) for block in runbook_blocks("sql")])
def test_destructive_sql_stands_under_mitigation_with_its_risk(block: RunbookBlock) -> None:
    if block.section == "Diagnosis":
        assert not re.search(DESTRUCTIVE + "|ALTER|GRANT|pg_reload_conf|SELECT pg_log_standby_snapshot", block.text)
    if re.search(DESTRUCTIVE, block.text):
        assert block.section == "Mitigation"
        text = (RUNBOOKS / f"{block.runbook}.md").read_text("utf-8")
        before = text[: text.index(block.text)]
        step = before[max(before.rfind(f"\n**{number}.") for number in range(1, 9)) :]
        assert "*Risk:" in step or "**This cannot be undone" in step, step


GUARDS = {
    "pg_drop_replication_slot": r"wal_status = 'lost'|NOT active",
    "pg_cancel_backend": r"confirmed_flush_lsn IS NULL|xact_start < clock_timestamp\(\) - interval",
    "pg_terminate_backend": r"(xact_start|reply_time) < clock_timestamp\(\) - interval|query ILIKE",
    "PREPARED": r"prepared < clock_timestamp\(\) - interval",
}
"""What each destructive statement checks by itself: a slot's name, a pid or a gid may be another's by then."""


@pytest.mark.parametrize(
    "block",
    [pytest.param(block, id=block.id) for block in runbook_blocks("sql") if re.search(DESTRUCTIVE, block.text)],
)
def test_destructive_statement_guards_itself(block: RunbookBlock) -> None:
    """A slot of the same name on the primary may be well while that of the alert's node is lost."""
    for statement, guard in GUARDS.items():
        if re.search(statement, block.text):
            assert re.search(guard, block.text), block.text
    assert not ("pg_drop_replication_slot" in block.text and block.where == "primary")


@each_runbook
def test_destructive_statement_stands_in_a_block(path: Path) -> None:
    """There its guard is checked; the text only names functions."""
    assert not re.search(rf"SELECT[^`]*({DESTRUCTIVE})\(", prose(path))


def test_lost_slot_is_dropped_only_if_it_is_lost() -> None:
    drops = [block for block in runbook_blocks("sql") if "pg_drop_replication_slot" in block.text]
    [drop] = [block for block in drops if block.runbook == "PgSlotLost"]
    assert (drop.where, "AND wal_status = 'lost'" in drop.text) == ("node", True)


@pytest.mark.parametrize("block", [pytest.param(block, id=block.id) for block in runbook_blocks("promql")])
def test_promql_block_reads_existing_metrics(block: RunbookBlock) -> None:
    for selector in selectors(block.text):
        documented = selector.metric in CATALOGUE or selector.metric in RECORDING_RULES
        # tests/alerts/test_runbooks_on_servers.py checks the healer's metrics on a real Prometheus.
        assert documented or selector.metric.startswith("pgslot_heal_") or selector.metric == "up", selector


def commands() -> Iterator[tuple[str, str]]:
    """Return (runbook, command line of our programs) from fenced blocks and from the text."""
    for block in runbook_blocks("sh"):
        for line in re.findall(r"^pg-slot-.*$", block.text, re.MULTILINE):
            yield block.runbook, line
    for path in sorted(RUNBOOKS.glob("*.md")):
        for line in re.findall(r"`(pg-slot-(?:exporter|healer) [^`]+)`", prose(path)):
            yield path.stem, line


@pytest.mark.parametrize(("runbook", "command"), sorted(set(commands())))
def test_commands_in_runbooks_are_accepted(runbook: str, command: str) -> None:
    program, *arguments = shlex.split(command.replace("CLUSTER", "demo").replace("FILE", "file").replace("[--", "--"))
    assert arguments, runbook
    PARSERS[program]().parse_args(arguments)


def test_runbooks_of_healable_alerts_describe_the_healer() -> None:
    for name in ALERTS_TO_HEALER:
        text = (RUNBOOKS / f"{name}.md").read_text("utf-8")
        assert "pgslot_heal_episodes_total" in text
        assert "/episodes" in text
        assert "pg-slot-healer heal" in text


def test_referenced_steps_exist() -> None:
    for path in RUNBOOKS.glob("*.md"):
        diagnosis, _, mitigation = path.read_text("utf-8").partition("## Mitigation")
        for step in re.findall(r"[Ss]teps? (\d)", prose(path)):
            assert f"\n**{step}. " in diagnosis, f"{path.stem}: step {step}"
        table = [line for line in diagnosis.splitlines() if line.startswith("|") and ".md" not in line]
        for step in re.findall(r"Mitigation (\d)", " ".join(table)):
            assert f"\n**{step}. " in mitigation, f"{path.stem}: Mitigation {step}"

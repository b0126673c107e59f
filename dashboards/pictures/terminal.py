"""
Writes what `pg-slot-exporter status` shows of some slots on real servers, as SVG for light and for dark pages.

`python -m dashboards.pictures.terminal` writes both files beside this one.
"""

import asyncio
import io
import re
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME, TerminalTheme

from exporter.commands.look import observing
from exporter.terminal.screen import Shown, screen
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerSettings, Node
from pgslot.status.report import Report
from tests.support.hanging_creations import hanging_creation
from tests.support.servers.stack import EXPORTER_ROLE, Stack
from tests.support.servers.workload import streaming_consumer, write_wal

COMMAND = 'pg-slot-exporter status --conninfo="host=shop-1,shop-2 user=postgres"'
WIDTH = 150
SETTLING_SECONDS = 62.0
"""A slot that nobody uses needs somebody after a minute."""
THEMES: dict[str, TerminalTheme] = {"light": DEFAULT_TERMINAL_THEME, "dark": SVG_EXPORT_THEME}


def picture(report: Report, theme: TerminalTheme) -> str:
    """Return the SVG; its fonts are those of the reader's machine."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(screen(report, console, Shown()), crop=False)
    svg = console.export_svg(title=COMMAND, theme=theme, unique_id="status")
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)


async def report_of_an_incident() -> Report:
    """Return the report of a creation that hangs, a slot that nobody uses, and one whose consumer does its part."""
    with Stack() as stack, ExitStack() as running, tempfile.TemporaryDirectory() as folder:
        await asyncio.to_thread(stack.start_databases)
        primary = stack.primary
        nodes = tuple(
            Node("shop", name, Conninfo(server.conninfo(EXPORTER_ROLE)))
            for name, server in (("shop-1", primary), ("shop-2", stack.standby))
        )
        primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('airbyte_users', 'pgoutput')")
        write_wal(primary, 300_000_000)
        primary.sql("CHECKPOINT")
        running.enter_context(streaming_consumer(primary, "debezium_orders", Path(folder)))
        running.enter_context(hanging_creation(stack, "electric"))
        await asyncio.sleep(SETTLING_SECONDS)
        async with observing(Config((Cluster("shop", nodes, None),), HealerSettings())) as observer:
            return await observer.look()


def main() -> None:
    report = asyncio.run(report_of_an_incident())
    for name, theme in THEMES.items():
        Path(__file__).with_name(f"exporter-status-{name}.svg").write_text(picture(report, theme), "utf-8")


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"written in {time.monotonic() - started:.0f} s")

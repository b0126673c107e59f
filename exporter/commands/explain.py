"""`pg-slot-exporter explain SLOT`: everything that is known of one slot, as a colleague would write it."""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from exporter.commands.look import add_server_flags, observing, positive_duration, read_servers, require_slot
from exporter.terminal.console import console_for, indented, print_plainly
from exporter.terminal.screen import name, section, step_lines, unseen
from pgslot.cli import logging as log
from pgslot.cli.amounts import duration
from pgslot.cli.logging import printable
from pgslot.cli.progress import show_progress
from pgslot.config.model import Config
from pgslot.status.advice import advice
from pgslot.status.explanation import explanation
from pgslot.status.report import Report
from pgslot.status.report_json import as_json

HELP = "explain one slot: what it is, what it waits for or why it retains WAL, with the evidence"
EXAMPLES = (
    (
        "Explain the slot cdc, on the server that has it.",
        'pg-slot-exporter explain cdc --conninfo="host=shop-1,shop-2 user=pgslot_exporter"',
    ),
    (
        "Explain it after watching the servers for a minute, in which more shows.",
        "pg-slot-exporter explain cdc --config.file=pgslot.yml --cluster=shop --for=1m",
    ),
)
LOOK_SECONDS = 5.0
"""Between two looks of --for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Explains one slot, on every node that has a slot of this name: what it is, who uses it, what it waits for or "
        "why it retains WAL, with the evidence, how long that can go on, whether it would survive a failover, and what "
        "to do. The command is read-only. Exit codes as for status: 0 nothing needs anybody, 1 something does, 2 bad "
        "input, 3 nothing does as far as the command could see, but it could not see everything."
    )
    parser.add_argument("slot", metavar="SLOT", help="the slot's name")
    add_server_flags(parser)
    parser.add_argument("--node", metavar="NODE", help="only the slot of this node")
    parser.add_argument(
        "--for",
        dest="watched_for",
        metavar="DURATION",
        help="watch the servers for this long first: some causes show only by what moves, within three minutes",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def run(options: argparse.Namespace) -> int:
    """Look and print; raises ConfigError for bad input, such as a slot that no server has."""
    log.setup("error", "logfmt")
    seconds = 0.0 if options.watched_for is None else positive_duration("--for", options.watched_for)
    config = read_servers(options)
    text = "asking the servers" if seconds == 0 else f"watching the servers for {duration(seconds)}"
    with show_progress(text):
        report = asyncio.run(_look(config, seconds))
    chosen = report.only(slot_name=options.slot, node=options.node)
    require_slot(report, options.slot, "SLOT", options.node)
    if options.json:
        print(as_json(chosen, looked_at=time.time(), explained=True))
    else:
        console = console_for(sys.stdout)
        print_plainly(console, Group(*_text(chosen)))
    return chosen.exit_code


async def _look(config: Config, seconds: float) -> Report:
    """Return what the last look of so many seconds showed."""
    async with observing(config) as observer:
        end = time.monotonic() + seconds
        report = await observer.look()
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(LOOK_SECONDS, left))
            report = await observer.look()
        return report


def _text(report: Report) -> Iterator[RenderableType]:
    for number, slot in enumerate(report.slots):
        if number:
            yield Text()
        yield Text(printable(name(slot, report)), style="bold")
        for paragraph in explanation(slot):
            yield indented(printable(paragraph), 2)
        for step in advice(slot):
            yield from step_lines(step, 2)
            if step.runbook is not None:
                yield indented(f"Runbook: {step.runbook}", 4, "dim")
    yield from section("Not seen", list(unseen(report)))

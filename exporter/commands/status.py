"""`pg-slot-exporter status`: every slot now, worst first, why it waits or retains WAL, and what to do about it."""

import argparse
import asyncio
import sys
import time
from datetime import datetime

from rich.console import Console
from rich.live import Live

from exporter.commands.look import (
    Observer,
    add_server_flags,
    observing,
    positive_duration,
    read_servers,
    require_slot,
)
from exporter.terminal.console import console_for, print_plainly
from exporter.terminal.screen import Shown, screen
from pgslot.cli import logging as log
from pgslot.cli.exit_codes import INTERRUPTED
from pgslot.cli.progress import show_progress
from pgslot.config.model import Config
from pgslot.status.report import Report
from pgslot.status.report_json import as_json

HELP = "show every slot now, worst first, with the cause and what to do about it"
EXAMPLES = (
    (
        "See the slots of one server.",
        'pg-slot-exporter status --conninfo="host=db dbname=postgres user=postgres"',
    ),
    (
        "Watch a primary and its standby: causes that show only by what moves become definite.",
        'pg-slot-exporter status --conninfo="host=shop-1,shop-2 user=pgslot_exporter" --watch',
    ),
    (
        "Check one cluster of the configuration in a script: the exit code shows whether somebody is needed.",
        "pg-slot-exporter status --config.file=pgslot.yml --cluster=shop --problems --json",
    ),
)
DEFAULT_INTERVAL = "2s"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Shows every replication slot now, worst first: who uses it, what it waits for or why it retains WAL, who "
        "is to blame, how much it retains, how fast that grows, how long that can go on, and what to do about it. "
        "The command is read-only, and takes a few connections that end with it. Exit code: 0 nothing needs "
        "anybody, 1 something does, 2 bad input, 3 nothing does as far as the command could see, but it could not see "
        "everything."
    )
    add_server_flags(parser)
    parser.add_argument("--slot", metavar="NAME", help="only slots of this name")
    parser.add_argument("--problems", action="store_true", help="only slots that need somebody, or a second look")
    parser.add_argument(
        "--watch",
        nargs="?",
        const=DEFAULT_INTERVAL,
        metavar="INTERVAL",
        help=f"look again and again, every {DEFAULT_INTERVAL} or so often, until Ctrl-C; shows how much the retained "
        "WAL grows, and causes that one look cannot show",
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON, for scripts; with --watch one line for each look"
    )


def run(options: argparse.Namespace) -> int:
    """Look and print; raises ConfigError for bad input."""
    log.setup("error", "logfmt")
    interval = None if options.watch is None else positive_duration("--watch", options.watch)
    config = read_servers(options)
    if interval is None:
        return asyncio.run(_look_once(config, options))
    return _watch_until_interrupted(config, options, interval)


async def _look_once(config: Config, options: argparse.Namespace) -> int:
    with show_progress("asking the servers"):
        async with observing(config) as observer:
            report = await observer.look()
    if options.slot is not None:
        require_slot(report, options.slot, "--slot")
    shown = _chosen(report, options)
    if options.json:
        print(as_json(shown, looked_at=time.time()))
    else:
        console = console_for(sys.stdout)
        print_plainly(console, screen(shown, console, Shown()))
    return shown.exit_code


def _chosen(report: Report, options: argparse.Namespace) -> Report:
    """Return what the flags ask for."""
    return report.only(slot_name=options.slot, problems=options.problems)


def _watch_until_interrupted(config: Config, options: argparse.Namespace, interval: float) -> int:
    console = console_for(sys.stdout)
    last: list[tuple[Report, Shown]] = []
    try:
        asyncio.run(_watch(config, options, interval, console, last))
    except KeyboardInterrupt:
        if console.is_terminal and last and not options.json:
            # The screen of the watch is gone with it: what it showed last stays.
            report, shown = last[-1]
            print_plainly(console, screen(report, console, shown))
        return INTERRUPTED
    return 0


async def _watch(
    config: Config, options: argparse.Namespace, interval: float, console: Console, last: list[tuple[Report, Shown]]
) -> None:
    """Look until this is cancelled; `last` always has what was shown last."""
    async with observing(config) as observer:
        if options.json or not console.is_terminal or console.is_dumb_terminal:
            await _print_looks(observer, options, interval, console)
            return
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                report, shown = await _next(observer, options, interval)
                last[:] = [(report, shown)]
                live.update(screen(report, console, shown), refresh=True)
                await asyncio.sleep(interval)


async def _print_looks(observer: Observer, options: argparse.Namespace, interval: float, console: Console) -> None:
    while True:
        report, shown = await _next(observer, options, interval)
        if options.json:
            print(as_json(report, looked_at=time.time(), indent=None), flush=True)
        else:
            print_plainly(console, screen(report, console, shown))
            console.file.write("\n")
            console.file.flush()
        await asyncio.sleep(interval)


async def _next(observer: Observer, options: argparse.Namespace, interval: float) -> tuple[Report, Shown]:
    report = _chosen(await observer.look(), options)
    now = datetime.now().astimezone()
    title = f"{now:%H:%M:%S}, every {interval:g} s; Ctrl-C ends this"
    return report, Shown(observer.samples(), watching=True, title=title)

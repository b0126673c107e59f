"""The slots of a report: as a table, or as blocks of lines where a terminal is too narrow for it."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from exporter.terminal.console import PIPE_WIDTH, ascii_only, indented
from pgslot.cli.logging import printable
from pgslot.status import wording
from pgslot.status.growth import HeldSample
from pgslot.status.report import Report
from pgslot.status.slot_status import Severity, SlotKey, SlotStatus
from pgslot.status.sparkline import sparkline

STYLES = {
    Severity.CRITICAL: "bold red",
    Severity.WARNING: "yellow",
    Severity.UNSEEN: "magenta",
    Severity.FINE: "",
}
"""The state also is in words: nothing depends on colour alone."""

Samples = Mapping[tuple[str, SlotKey], Sequence[HeldSample]]


class _Column(NamedTuple):
    title: str
    cell: Callable[[SlotStatus], str]
    always: bool = False
    """Shown also if all of its cells are empty."""
    right: bool = False
    wraps_at: int | None = None
    """Where the terminal is narrow, its cells take several lines of at least this width; None: they never do."""


def _columns(samples: Samples, *, clusters: bool, ascii_text: bool) -> list[_Column]:
    def trend(slot: SlotStatus) -> str:
        found = samples.get((slot.cluster, SlotKey(slot.node, slot.slot_name)), ())
        return sparkline(found, ascii_only=ascii_text) if len(found) > 1 else ""

    first = [_Column("cluster", lambda slot: slot.cluster)] if clusters else []
    return [
        *first,
        _Column("node", lambda slot: slot.node, always=True),
        _Column("slot", lambda slot: slot.slot_name, always=True),
        _Column("database", lambda slot: slot.database),
        _Column("type", lambda slot: slot.slot_type, always=True),
        _Column("state", wording.state, always=True, wraps_at=12),
        _Column("because", because, wraps_at=20),
        _Column("in use by", lambda slot: wording.user(slot.user), wraps_at=18),
        _Column("retains", wording.held, always=True, right=True),
        _Column("trend", trend),
        _Column("growth", wording.growth, right=True),
        _Column("room left", wording.room, right=True),
        _Column("time left", wording.time_left, right=True),
        _Column("failover", wording.failover, wraps_at=18),
    ]


def because(status: SlotStatus) -> str:
    """Return what it waits for or why it retains WAL, and who is to blame."""
    return ": ".join(part for part in (wording.why(status), wording.culprits(status)) if part)


def slots(report: Report, console: Console, samples: Samples) -> RenderableType:
    """Return the widest form that fits: a table with a line for each slot, one whose cells wrap, or blocks of lines."""
    unlimited = console.options.update(width=PIPE_WIDTH)
    whole = _table(report, console, samples, wrap=False)
    if not console.is_terminal or Measurement.get(console, unlimited, whole).maximum <= console.width:
        return whole
    wrapped = _table(report, console, samples, wrap=True)
    if Measurement.get(console, unlimited, wrapped).minimum <= console.width:
        return wrapped
    return _blocks(report, samples, console)


def _table(report: Report, console: Console, samples: Samples, *, wrap: bool) -> Table:
    """Return a row for every slot; columns in which there is nothing are left out."""
    plain = ascii_only(console)
    columns = _columns(samples, clusters=report.several_clusters, ascii_text=plain)
    rows = [[printable(column.cell(slot)) for column in columns] for slot in report.slots]
    used = [index for index, column in enumerate(columns) if column.always or any(row[index] for row in rows)]
    border = None if not console.is_terminal else box.ASCII if plain else box.ROUNDED
    drawn = Table(box=border, pad_edge=console.is_terminal, header_style="bold", expand=False, show_lines=wrap)
    for index in used:
        column = columns[index]
        drawn.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not wrap or column.wraps_at is None,
            min_width=column.wraps_at if wrap else None,
        )
    for slot, row in zip(report.slots, rows, strict=True):
        drawn.add_row(*(Text(row[index] or "-", style=_style(columns[index], slot)) for index in used))
    return drawn


def _style(column: _Column, slot: SlotStatus) -> str:
    return STYLES[slot.severity] if column.title in ("slot", "state", "because") else ""


def _blocks(report: Report, samples: Samples, console: Console) -> RenderableType:
    """Return some lines for every slot."""
    columns = _columns(samples, clusters=report.several_clusters, ascii_text=ascii_only(console))
    named = {column.title: column for column in columns}
    parts: list[RenderableType] = []
    for slot in report.slots:
        cells = {title: printable(column.cell(slot)) for title, column in named.items()}
        place = "/".join(cells[title] for title in ("cluster", "node") if title in cells)
        kind = f"{cells['type']}, {cells['database']}" if cells["database"] else cells["type"]
        amounts = [
            f"retains {cells['retains']}" if cells["retains"] else "",
            cells["growth"],
            cells["trend"],
            f"room left {cells['room left']}" if cells["room left"] not in ("", "no limit") else cells["room left"],
            f"time left {cells['time left']}" if cells["time left"] else "",
        ]
        lines = [
            f"{place} ({kind})",
            cells["because"],
            f"in use by {cells['in use by']}" if cells["in use by"] else "",
            ", ".join(amount for amount in amounts if amount),
            f"failover: {cells['failover']}" if cells["failover"] else "",
        ]
        parts.append(Text(f"{cells['slot']}: {cells['state']}", style=STYLES[slot.severity] or "bold"))
        parts += [indented(line, 2) for line in lines if line]
    return Group(*parts)

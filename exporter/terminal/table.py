"""The slots of a report: as a table, or as blocks of lines where a terminal is too narrow for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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


MAX_ROWS = 200
"""On a terminal: nobody reads more, and rich needs milliseconds for each."""


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


class _Rows(NamedTuple):
    """Columns in which there is something, and their cells."""

    columns: list[_Column]
    cells: list[list[str]]


def slots(report: Report, console: Console, samples: Samples) -> RenderableType:
    """
    Return the widest form that fits: a table with a line for each slot, one whose cells wrap, or blocks of lines.

    A terminal gets the worst MAX_ROWS slots, a pipe gets all of them.
    """
    if not console.is_terminal:
        return _lines(_rows(report, console, samples))
    shown = replace(report, slots=report.slots[:MAX_ROWS])
    drawn = _drawn(shown, console, samples)
    more = len(report.slots) - len(shown.slots)
    return Group(drawn, Text(f"and {more} more; --json and a pipe have all of them")) if more else drawn


def _drawn(report: Report, console: Console, samples: Samples) -> RenderableType:
    unlimited = console.options.update(width=PIPE_WIDTH)
    rows = _rows(report, console, samples)
    whole = _table(rows, report, console, wrap=False)
    if Measurement.get(console, unlimited, whole).maximum <= console.width:
        return whole
    wrapped = _table(rows, report, console, wrap=True)
    if Measurement.get(console, unlimited, wrapped).minimum <= console.width:
        return wrapped
    return _blocks(report, samples, console)


def _rows(report: Report, console: Console, samples: Samples) -> _Rows:
    columns = _columns(samples, clusters=report.several_clusters, ascii_text=ascii_only(console))
    cells = [[printable(column.cell(slot)) for column in columns] for slot in report.slots]
    used = [index for index, column in enumerate(columns) if column.always or any(row[index] for row in cells)]
    return _Rows([columns[index] for index in used], [[row[index] or "-" for index in used] for row in cells])


def _lines(rows: _Rows) -> Text:
    """Return aligned lines. rich takes seconds for a table of 1,000 slots."""
    lines = [[column.title for column in rows.columns], *rows.cells]
    widths = [max(len(line[index]) for line in lines) for index in range(len(rows.columns))]
    texts = (
        "  ".join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, rows.columns, strict=True)
        )
        for line in lines
    )
    return Text("\n".join(text.rstrip() for text in texts), no_wrap=True, overflow="ignore")


def _table(rows: _Rows, report: Report, console: Console, *, wrap: bool) -> Table:
    border = box.ASCII if ascii_only(console) else box.ROUNDED
    drawn = Table(box=border, header_style="bold", expand=False, show_lines=wrap)
    for column in rows.columns:
        drawn.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not wrap or column.wraps_at is None,
            min_width=column.wraps_at if wrap else None,
        )
    for slot, cells in zip(report.slots, rows.cells, strict=True):
        styled = (Text(cell, style=_style(column, slot)) for cell, column in zip(cells, rows.columns, strict=True))
        drawn.add_row(*styled)
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

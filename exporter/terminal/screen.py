"""One look as a screen: a table of slots, worst first, what to do, and what could not be seen."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.text import Text

from exporter.terminal.console import command, indented
from exporter.terminal.table import slots
from pgslot.cli.logging import printable
from pgslot.status.advice import advice
from pgslot.status.growth import HeldSample
from pgslot.status.node_status import UNANSWERED, NodeStatus
from pgslot.status.report import Report
from pgslot.status.slot_status import Severity, SlotKey, SlotStatus
from pgslot.status.step import Step

MAX_ADVICE = 10
"""So many slots have their advice below the table; `explain` and --json have the others'."""

Samples = Mapping[tuple[str, SlotKey], Sequence[HeldSample]]
"""By cluster and slot."""


@dataclass(frozen=True, slots=True)
class Shown:
    """How a report is shown."""

    samples: Samples = field(default_factory=dict)
    """What each slot retained in the looks of --watch. Empty: there was only one."""
    watching: bool = False
    title: str = ""
    """Above everything; empty: nothing."""


def screen(report: Report, console: Console, shown: Shown) -> RenderableType:
    """Return what to print."""
    parts: list[RenderableType] = []
    if shown.title:
        parts += [Text(shown.title, style="dim"), Text()]
    parts += [Text(line) for line in _nodes(report)]
    parts.append(Text())
    parts.append(slots(report, console, shown.samples) if report.slots else Text("No slots."))
    parts += section("What to do", list(_advice(report)))
    parts += section("Not seen", list(unseen(report)))
    parts += [Text(), verdict(report, watching=shown.watching)]
    return Group(*parts)


def verdict(report: Report, *, watching: bool = False) -> Text:
    """Return the last line."""
    needing = sum(slot.needs_attention for slot in report.slots)
    unclear = sum(slot.severity is Severity.UNSEEN for slot in report.slots)
    if needing:
        noun = "slot needs" if needing == 1 else "slots need"
        return Text(f"{needing} {noun} somebody.", style="bold red")
    if report.problems:
        return Text("Somebody is needed.", style="bold red")
    if report.exit_code == 0:
        return Text("Nothing needs anybody.", style="green")
    if unclear and not watching:
        noun = "slot needs" if unclear == 1 else "slots need"
        return Text(f"{unclear} {noun} a second look: run this again with --watch.", style="yellow")
    return Text("Nothing needs anybody as far as could be seen, and not everything could be seen.", style="yellow")


def section(title: str, lines: Sequence[RenderableType]) -> list[RenderableType]:
    """Return a section with its heading; nothing if it has no lines."""
    return [Text(), Text(f"{title}:", style="bold"), *lines] if lines else []


def _nodes(report: Report) -> Iterator[str]:
    for cluster in dict.fromkeys(node.cluster for node in report.nodes):
        nodes = [_node(node) for node in report.nodes if node.cluster == cluster]
        prefix = f"{cluster}: " if report.several_clusters else ""
        yield printable(prefix + "; ".join(nodes))


def _node(node: NodeStatus) -> str:
    return f"{node.node} ({node.role}, PostgreSQL {node.version})" if node.answered else f"{node.node} (no answer)"


def _advice(report: Report) -> Iterator[RenderableType]:
    for problem in report.problems:
        yield indented(printable(problem), 2, "bold red")
    advised = [(slot, steps) for slot in report.slots if slot.needs_attention and (steps := advice(slot))]
    for slot, steps in advised[:MAX_ADVICE]:
        yield indented(printable(name(slot, report)), 2, "bold")
        for step in steps:
            yield from step_lines(step, 4)
    if len(advised) > MAX_ADVICE:
        yield indented(f"and {len(advised) - MAX_ADVICE} more: --slot=NAME shows one of them", 2)


def step_lines(step: Step, spaces: int) -> Iterator[RenderableType]:
    """Yield what to do, the statement, and what it costs and frees."""
    first, *rest = (printable(line) for line in step.lines)
    yield indented(f"- {first}", spaces)
    for line in rest:
        if step.command is not None and line is rest[0]:
            yield command(line.strip(), spaces + 4)
        else:
            yield indented(line, spaces + 2, "dim")


def name(slot: SlotStatus, report: Report) -> str:
    """Return a slot's name with its node, and its cluster if there are several."""
    cluster = f"{slot.cluster}/" if report.several_clusters else ""
    return f"{slot.slot_name} on {cluster}{slot.node}"


def unseen(report: Report) -> Iterator[RenderableType]:
    """Yield what could not be seen, and the statement that shows it."""
    for text in report.unseen:
        yield indented(printable(text), 2, "yellow")
    for node in report.nodes:
        if not node.answered:
            status = next(iter(node.failures.values()), None)
            because = "did not answer" if status is None else UNANSWERED.get(status, str(status))
            error = f": {node.error}" if node.error else ""
            yield indented(printable(f"{node.node} {because}{error}"), 2, "yellow")
            continue
        for hidden in node.hidden:
            yield indented(printable(f"{node.node}: {hidden.what}. As a superuser on the primary:"), 2, "yellow")
            yield command(printable(hidden.statement), 4)
        if node.refused:
            functions = ", ".join(f"{function}()" for function in node.refused)
            yield indented(printable(f"{node.node}: what only {functions} shows, which the server refuses to run"), 2)
        if not node.hidden and not node.complete:
            failed = ", ".join(f"{query} ({status})" for query, status in node.failures.items())
            yield indented(printable(f"{node.node}: these queries failed: {failed}"), 2, "yellow")

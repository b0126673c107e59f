"""A preflight as lines for people, and as JSON for scripts."""

import json
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from pgslot.cli.amounts import duration
from pgslot.cli.logging import printable
from pgslot.diagnosis.preflight_model import Line, Outcome, Preflight, Stage, Status, Wait

_STATUSES = {Status.OK: "ok", Status.WARNING: "warning", Status.FAIL: "FAIL", Status.UNKNOWN: "unknown"}
_HEADINGS = {
    Stage.CREATION: "To create the slot",
    Stage.CONSUMER: "For its consumer",
    Stage.LATER: "Once its consumer is slow or away",
}
_WAITS = {
    Wait.TRANSACTIONS: "until these transactions end",
    Wait.REPLAY: "until the standby replays what the primary writes",
    Wait.RECORD: "until the next running-xacts record",
}


def as_text(preflight: Preflight, width: int | None = None) -> str:
    """Return the lines by stage, each with what fixes it, and the verdict; texts are wrapped at `width` columns."""
    return "\n".join(_text(preflight, width))


def as_json(preflight: Preflight) -> str:
    """Return one object, in ASCII; docs/reference/preflight.md describes it."""
    return json.dumps(_object(preflight), indent=2)


def verdict(preflight: Preflight) -> str:
    """Return what a creation would do, in one or two sentences."""
    sentences = [_creation(preflight)]
    failing = _checks(preflight, Status.FAIL, Stage.CONSUMER)
    if failing:
        sentences.append(f"Its consumer, or those who write to its tables, would fail: {failing}.")
    unknown = _checks(preflight, Status.UNKNOWN, Stage.CREATION, Stage.CONSUMER)
    if unknown:
        sentences.append(f"Unknown: {unknown}.")
    return " ".join(sentences)


def _creation(preflight: Preflight) -> str:
    if preflight.outcome is Outcome.AT_ONCE:
        return "A creation would work at once."
    if preflight.outcome is Outcome.FAILS:
        return f"A creation would fail: {_checks(preflight, Status.FAIL, Stage.CREATION)}."
    if preflight.outcome is Outcome.WAITS:
        return f"A creation would wait {', then '.join(map(_until, preflight.waits))}."
    return "What is known does not stand in the way of a creation."


def _until(line: Line) -> str:
    if line.wait is None:
        return ""
    bound = "" if line.at_most_seconds is None else f" (up to {duration(line.at_most_seconds)})"
    return f"{_WAITS[line.wait]}{bound}"


def _checks(preflight: Preflight, status: Status, *stages: Stage) -> str:
    return ", ".join(line.check for line in preflight.lines if line.status is status and line.stage in stages)


def _text(preflight: Preflight, width: int | None) -> Iterable[str]:
    database = f" in {preflight.database}" if preflight.database else ""
    user = f" for {preflight.user}" if preflight.user else ""
    where = f" on {preflight.node}" if preflight.node else ""
    yield printable(f"A logical slot ({preflight.plugin}){database}{user}{where}, as of now")
    column = max((len(line.check) for line in preflight.lines), default=0)
    for stage, heading in _HEADINGS.items():
        lines = [line for line in preflight.lines if line.stage is stage]
        if lines:
            yield from ("", f"{heading}:")
        for line in lines:
            label = f"  {_STATUSES[line.status]:<7}  {line.check:<{column}}  "
            yield from _wrapped(label, line.text, width)
            yield from _fix(line, " " * len(label))
    yield from ("", *_wrapped("", verdict(preflight), width))


MIN_TEXT = 40
"""Columns: a terminal so narrow that less is left for texts wraps them itself."""


def _wrapped(label: str, text: str, width: int | None) -> list[str]:
    if width is None or width - len(label) < MIN_TEXT:
        return [printable(label + text)]
    return textwrap.wrap(
        printable(text),
        width,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _fix(line: Line, indent: str) -> Iterable[str]:
    """Yield what fixes it, unwrapped, so that it can be copied."""
    if line.fix:
        yield printable(f"{indent}on {line.fix_on}:" if line.fix_on else f"{indent}do:")
        yield from (printable(f"{indent}  {statement}") for statement in line.fix)


def _object(preflight: Preflight) -> dict[str, Any]:
    return {
        "node": preflight.node,
        "database": preflight.database,
        "user": preflight.user,
        "plugin": preflight.plugin,
        "publication": preflight.publication,
        "outcome": preflight.outcome,
        "waits": [{"for": line.wait, "at_most_seconds": line.at_most_seconds} for line in preflight.waits],
        "fails": preflight.fails,
        "everything_known": preflight.everything_known,
        "text": verdict(preflight),
        "lines": _lines(preflight.lines),
    }


def _lines(lines: Sequence[Line]) -> list[dict[str, Any]]:
    return [
        {
            "check": line.check,
            "status": line.status,
            "stage": line.stage,
            "text": line.text,
            "fix": list(line.fix),
            "fix_on": line.fix_on or None,
            "wait": line.wait,
            "at_most_seconds": line.at_most_seconds,
        }
        for line in lines
    ]

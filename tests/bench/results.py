"""Results of measurements, and their output: a table for people, JSON lines for programs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """One measured number, if possible with a reference that was measured in alternation with it."""

    name: str
    value: float
    unit: str
    against: str = ""
    """The name of the reference: `floor` (the minimum cost), `peer` (postgres_exporter), `first tenth`, ..."""
    reference: float | None = None
    """In the same unit."""
    target: str = ""
    held: bool | None = None
    """Whether the target is met; None without a target."""

    @property
    def ratio(self) -> float | None:
        return self.value / self.reference if self.reference else None

    def as_json(self) -> str:
        """Return one line of JSON, in which the reference has its name as the key: `"floor": 1.2`."""
        line: dict[str, object] = {"name": self.name, "value": round(self.value, 4), "unit": self.unit}
        if self.reference is not None and self.ratio is not None:
            line |= {self.against: round(self.reference, 4), "ratio": round(self.ratio, 3)}
        if self.held is not None:
            line |= {"target": self.target, "held": self.held}
        return json.dumps(line)


def at_most(max_ratio: float, result: Result) -> Result:
    """Return the result with a ratio as its target."""
    held = result.ratio is not None and result.ratio <= max_ratio
    return replace(result, target=f"at most {max_ratio:g}x", held=held)


def table(results: Iterable[Result]) -> str:
    """Return the results as a Markdown table, aligned for terminals."""
    rows = [("measured", "value", "against", "ratio", "target", "")]
    rows += [
        (
            result.name,
            _quantity(result.value, result.unit),
            f"{result.against} {_quantity(result.reference, result.unit)}" if result.reference is not None else "",
            f"{result.ratio:.2f}x" if result.ratio is not None else "",
            result.target,
            {True: "held", False: "MISSED", None: ""}[result.held],
        )
        for result in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows]
    lines.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    return "\n".join(lines)


def write_json(results: Iterable[Result], file: Path) -> None:
    file.write_text("".join(f"{result.as_json()}\n" for result in results), "utf-8")


def _quantity(value: float, unit: str) -> str:
    digits = 0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}".strip()

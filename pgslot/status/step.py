"""One thing to do about a slot."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """What to do, where, and what it costs and frees. Texts are clauses without a full stop at the end."""

    text: str
    command: str | None
    """One line for psql, complete with its guard. None: this is not done with a statement."""
    node: str | None
    """The server to act on. None: this is not done on a server of the cluster, or it is not known which one it is."""
    costs: str = ""
    """Empty: nothing to mention."""
    frees: str = ""
    """The WAL that the server can remove afterwards. Empty: it is not about WAL."""
    runbook: str | None = None
    """The alert whose runbook has the whole procedure."""

    @property
    def lines(self) -> tuple[str, ...]:
        """One to three lines of plain text."""
        place = f" (on {self.node})" if self.node is not None else ""
        return tuple(self._lines(place))

    def _lines(self, place: str) -> Iterator[str]:
        yield f"{self.text}{place}{':' if self.command else ''}"
        if self.command is not None:
            yield f"  {self.command}"
        effects = [f"Costs: {self.costs}." if self.costs else "", f"Frees: {self.frees}." if self.frees else ""]
        if any(effects):
            yield " ".join(effect for effect in effects if effect)

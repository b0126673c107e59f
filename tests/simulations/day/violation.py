"""What is told of an invariant that does not hold."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Violation:
    """An invariant, what it demands, and what was found in its place."""

    invariant: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.invariant}: expected {self.expected}, found {self.found}"

"""The report of an invariant that does not hold."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Violation:
    """An invariant, its expectation, and the actual finding."""

    invariant: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.invariant}: expected {self.expected}, found {self.found}"

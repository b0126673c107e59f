"""The extent of the measurements: numbers of slots, nodes, rounds and requests."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    slots: tuple[int, ...] = (10, 200, 1000)
    sessions: int = 300
    """A third of them in transactions with an xid."""
    rounds: int = 30
    nodes: tuple[int, ...] = (1, 10, 100)
    fleet_scrapes: int = 20
    scrapes: int = 10_000
    heals: int = 20
    trips: int = 20
    pauses: tuple[float, ...] = (1.0, 12.0)
    """Seconds between the drop of a slot and the next creation under its name."""
    retries: int = 4
    """For each pause."""
    alerts: int = 10_000
    """In one body."""
    storm_seconds: float = 30.0
    storm_rate: int = 200
    """Requests a second."""


FULL = Scale()
QUICK = Scale(
    slots=(10, 50),
    sessions=30,
    rounds=3,
    nodes=(1, 10),
    fleet_scrapes=3,
    scrapes=200,
    heals=2,
    trips=2,
    pauses=(1.0,),
    retries=1,
    alerts=500,
    storm_seconds=2.0,
)

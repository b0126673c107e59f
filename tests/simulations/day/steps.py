"""What can be done on a day: the acts, and a step of a plan."""

from dataclasses import dataclass
from enum import StrEnum


class Act(StrEnum):
    """What is done; on a node, with a slot, a transaction or a program of some name, for some seconds."""

    CREATE = "create"
    """A consumer creates a slot through a walsender, and waits."""
    CREATE_BY_FUNCTION = "create_by_function"
    DROP = "drop"
    """A slot is dropped, made or not; whoever creates or reads it is ended first."""
    ABANDON = "abandon"
    """Who creates a slot, or has, hangs up without a word."""
    CONSUME = "consume"
    LEAVE = "leave"
    """Who reads a slot is killed."""
    BEGIN = "begin"
    COMMIT = "commit"
    PREPARE = "prepare"
    """A transaction is begun and prepared."""
    FINISH = "finish"
    """A prepared one is committed or rolled back."""
    WRITE = "write"
    PAUSE = "pause"
    """Replay is paused."""
    RESUME = "resume"
    REFUSE = "refuse"
    """The standby's way to its primary is cut, and refused."""
    SWALLOW = "swallow"
    """What the standby and its primary send each other gets lost."""
    RECONNECT = "reconnect"
    RESTART_FAST = "restart_fast"
    RESTART_IMMEDIATE = "restart_immediate"
    """As after a crash: what was open is rolled back."""
    HANG = "hang"
    """A server with all its sessions is stopped for some seconds."""
    SWITCHOVER = "switchover"
    """The primary is stopped in order, the standby promoted, and the old primary follows it."""
    FAILOVER = "failover"
    """The primary is ended as by a crash, the standby promoted, and the old primary's data thrown away and copied."""
    KILL = "kill"
    """A program, by SIGKILL."""
    START = "start"
    CALL_BY_HAND = "call_by_hand"
    """Sabotage: somebody else than the healer forces a record. In no plan."""
    FREEZE = "freeze"
    """Sabotage: a program is stopped, and nobody knows of it. In no plan."""
    SILENCE = "silence"
    """Sabotage: a server's background writer is stopped, so that no record comes by itself. In no plan."""


SABOTAGE = frozenset({Act.CALL_BY_HAND, Act.FREEZE, Act.SILENCE})

EXPORTER, HEALER = "exporter", "healer"


@dataclass(frozen=True)
class Step:
    """`at`: seconds since the day's begin, at the earliest; a step that takes long delays those after it."""

    at: float
    act: Act
    node: str = ""
    name: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        lasts = f"{self.seconds:.1f} s" if self.seconds else ""
        return " ".join(part for part in (f"{self.at:6.1f}", self.act, self.name, self.node, lasts) if part)

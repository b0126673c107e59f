"""The acts of a day, and the steps of a plan."""

from dataclasses import dataclass
from enum import StrEnum


class Act(StrEnum):
    """An act on a node, with a slot, a transaction or a program by its name, for some seconds."""

    CREATE = "create"
    """A consumer creates a slot through a walsender, and waits."""
    CREATE_BY_FUNCTION = "create_by_function"
    DROP = "drop"
    """A slot is dropped, made or not, after its creator or consumer was ended."""
    ABANDON = "abandon"
    """The creator of a slot closes its connection without notice, before or after the slot is made."""
    CONSUME = "consume"
    LEAVE = "leave"
    """The consumer of a slot is killed."""
    BEGIN = "begin"
    COMMIT = "commit"
    PREPARE = "prepare"
    """A transaction is begun and prepared."""
    FINISH = "finish"
    """A prepared transaction is committed or rolled back."""
    FORGET = "forget"
    """A client that the owner allows to be ended begins a transaction, and leaves it open."""
    HANG_UP = "hang_up"
    """That client closes its connection, if it still has one."""
    WRITE = "write"
    PAUSE = "pause"
    """Replay is paused."""
    RESUME = "resume"
    REFUSE = "refuse"
    """The standby's connection to its primary is cut, and new ones are refused."""
    SWALLOW = "swallow"
    """Everything that the standby and its primary send each other is lost."""
    RECONNECT = "reconnect"
    RESTART_FAST = "restart_fast"
    RESTART_IMMEDIATE = "restart_immediate"
    """As after a crash: open transactions are rolled back."""
    HANG = "hang"
    """A server and all its sessions hang for some seconds."""
    SWITCHOVER = "switchover"
    """The primary is stopped cleanly, the standby promoted, and the old primary becomes its standby."""
    FAILOVER = "failover"
    """The primary crashes, the standby is promoted, and the old primary is rebuilt from it."""
    KILL = "kill"
    """A program is killed by SIGKILL."""
    START = "start"
    CALL_BY_HAND = "call_by_hand"
    """Sabotage: a superuser, not the healer, forces a record. In no plan."""
    FREEZE = "freeze"
    """Sabotage: a program hangs, which the day's state does not record as an obstacle. In no plan."""
    SILENCE = "silence"
    """Sabotage: a server's background writer is stopped, so that no record comes by itself. In no plan."""


SABOTAGE = frozenset({Act.CALL_BY_HAND, Act.FREEZE, Act.SILENCE})

EXPORTER, HEALER = "exporter", "healer"


@dataclass(frozen=True)
class Step:
    """`at`: the earliest time in seconds since the day's start; a long step delays those after it."""

    at: float
    act: Act
    node: str = ""
    name: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        lasts = f"{self.seconds:.1f} s" if self.seconds else ""
        return " ".join(part for part in (f"{self.at:6.1f}", self.act, self.name, self.node, lasts) if part)

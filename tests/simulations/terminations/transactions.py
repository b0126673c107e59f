"""A session's open transaction, or a prepared one, as a primary's views show it and as its WAL has it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Owner:
    """Who opens a transaction, and where."""

    usename: str = "billing"
    application_name: str = "importer"
    datname: str = "postgres"
    backend_type: str = "client backend"
    superuser: bool = False

    @property
    def oid(self) -> int:
        return 16384 + sum(map(ord, self.usename))


@dataclass(eq=False)
class Transaction:
    """
    One transaction. Times are simulated seconds, except those named `_stamp`, which the primary's own clock gave.

    `first_lsn`: where its first WAL begins, of its own or of a subtransaction's; None: it has written none (it only
    has an xid, or wrote temporary or unlogged tables).
    """

    owner: Owner
    pid: int | None
    """None: prepared."""
    backend_start_stamp: float
    xact_start_stamp: float
    state_change_stamp: float
    idle_since: float | None
    """None: a statement runs, or it is prepared."""
    began: float
    xid: int | None = None
    subxids: list[int] = field(default_factory=list)
    first_lsn: int | None = None
    replayed_end: float | None = None
    """When the standby replays its end; None: it is open."""
    ended: float | None = None
    gid: str = ""
    by_healer: bool = False
    shown_since: float | None = None
    """When the healer was first shown its xid; None: never."""

    @property
    def open(self) -> bool:
        return self.ended is None

    @property
    def holds_xid(self) -> bool:
        return self.ended is None and self.xid is not None

    @property
    def state(self) -> str:
        return "active" if self.idle_since is None else "idle in transaction"


@dataclass(frozen=True)
class Record:
    """A running-xacts record in the primary's WAL."""

    at: float
    lsn: int
    end: int
    offered: int
    """The restart_lsn that a decoder offers when it reads this record (SnapBuildProcessRunningXacts)."""
    running: frozenset[int]
    """The xids of all open transactions."""
    open_transactions: tuple[Transaction, ...] = field(repr=False, default=())

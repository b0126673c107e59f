"""
The queries that a node is asked: one .sql file each, whose rows fill the type in rows.py that has the same columns.

A line that holds for some PostgreSQL versions only ends in a mark (`-- pg >= 17`, `-- pg < 17`, `-- pg = 16`); every
version selects the same columns, in the order of the fields, so that a row always fills it.
"""

import operator
import re
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.resources import files
from typing import Any

from pgslot.snapshot.preflight_rows import PreflightLibrary, PreflightPublication, PreflightServer
from pgslot.snapshot.refused_functions import without_functions
from pgslot.snapshot.rows import NodeFacts, Slot, SlotCreation, SlotUser, Standby, Transaction, WalSender
from pgslot.snapshot.service_signs import ServiceSigns
from pgslot.snapshot.wal_rows import ArchiveStatus, Checkpoint, WalDirectory, WalFacts

OLDEST_SUPPORTED = 14
"""Major version. On 13 pg_replication_slots lacks columns, and it has been out of support since 2025."""

SUPPORTED = (14, 15, 16, 17, 18, 19)
"""Major versions that the project is written for; a newer one gets the SQL of the newest."""

_MARK = re.compile(r"--\s*pg\s*(?P<op>>=|<|=)\s*(?P<major>\d+)\s*$")
_COMPARE = {">=": operator.ge, "<": operator.lt, "=": operator.eq}


@dataclass(frozen=True, slots=True)
class Query:
    """One query: its name in pgslot_probe_status, its rows' type, and whether it needs pg_read_all_stats."""

    name: str
    row: type[Any]
    needs_all_stats: bool

    def sql(self, major: int, refused: frozenset[str] = frozenset()) -> str:
        """Return the query for this major version of PostgreSQL, without calls of the functions `refused`."""
        sql = _for_version(self.name, major)
        return without_functions(sql, refused) if refused else sql


QUERIES = (
    Query("node", NodeFacts, needs_all_stats=False),
    Query("slots", Slot, needs_all_stats=False),
    Query("creations", SlotCreation, needs_all_stats=True),
    Query("transactions", Transaction, needs_all_stats=True),
    Query("standby", Standby, needs_all_stats=True),
    Query("senders", WalSender, needs_all_stats=True),
)
"""What a scrape asks."""

WAL_FACTS = Query("wal_facts", WalFacts, needs_all_stats=False)
WAL_DIRECTORY = Query("wal_directory", WalDirectory, needs_all_stats=False)
ARCHIVE_STATUS = Query("archive_status", ArchiveStatus, needs_all_stats=False)
CHECKPOINT = Query("checkpoint", Checkpoint, needs_all_stats=False)
WAL_QUERIES = (WAL_FACTS, WAL_DIRECTORY, ARCHIVE_STATUS, CHECKPOINT)
"""What is asked only at intervals, as two of these list a directory: see wal_usage.py. No scope has them."""

PREFLIGHT = Query("preflight", PreflightServer, needs_all_stats=False)
PREFLIGHT_LIBRARY = Query("preflight_library", PreflightLibrary, needs_all_stats=False)
PREFLIGHT_PUBLICATION = Query("preflight_publication", PreflightPublication, needs_all_stats=False)
PREFLIGHT_QUERIES = (PREFLIGHT, PREFLIGHT_LIBRARY, PREFLIGHT_PUBLICATION)
"""What only `preflight` asks, with parameters: see preflight.py."""

SERVICE_SIGNS = Query("service_signs", ServiceSigns, needs_all_stats=False)
"""By what a managed service may be recognised: asked once for each connection."""

SLOT_USERS = Query("slot_users", SlotUser, needs_all_stats=False)
"""Who uses which slot. A collector asks it with everything else, if its program shows that."""


class Scope(Enum):
    """
    The names of the queries that one collection runs.

    Each scope contains the one above it. So scopes are ordered, and a snapshot of a larger one serves a smaller one.
    """

    CREATIONS = frozenset({"node", "creations"})
    """Whether a slot creation waits, and for how long."""
    EXPLANATION = CREATIONS | {"transactions", "standby", "senders"}
    """Also what it waits for."""
    EVERYTHING = EXPLANATION | {"slots"}
    """All queries. Only this is recorded in a node's history."""

    def __lt__(self, other: "Scope") -> bool:
        return self.value < other.value

    @property
    def queries(self) -> tuple[Query, ...]:
        """The queries of the scope, in the order of QUERIES."""
        return _QUERIES_OF[self]


_QUERIES_OF = {scope: tuple(query for query in QUERIES if query.name in scope.value) for scope in Scope}


@cache
def _for_version(name: str, major: int) -> str:
    lines = []
    for line in files(__package__).joinpath(f"{name}.sql").read_text("utf-8").splitlines():
        mark = _MARK.search(line)
        if mark is None:
            lines.append(line)
        elif _COMPARE[mark["op"]](major, int(mark["major"])):
            lines.append(line[: mark.start()].rstrip())
    return "\n".join(lines)

"""Parses the answers of Patroni's REST API; client.py fetches them."""

import re
from dataclasses import dataclass
from typing import Any

from pgslot.config.model import NAME

MAX_MEMBERS = 100
_HOST = re.compile(r"[A-Za-z0-9_.:%-]{1,255}")
"""Without a comma, which separates hosts for libpq, and without / and @, which would make it a socket."""
_DEFAULT_PORT = 5432


@dataclass(frozen=True, slots=True)
class Member:
    """One server of the cluster."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The members of a cluster, as Patroni listed them at one moment."""

    members: tuple[Member, ...]
    """Sorted by name; at least one."""
    left_out: tuple[str, ...]
    """Why listed members are not among them, one line per member."""
    system_identifier: str | None
    """None: not in the answer."""


def parse_answer(cluster: Any, status: Any, scope: str | None) -> Answer:
    """
    Return the members by `cluster`, the JSON of GET /cluster, and `status`, that of GET /patroni, or None without it.

    Raises ValueError if Patroni cannot have sent it, if its scope is not `scope`, and if no member is usable.
    """
    identity = status if isinstance(status, dict) else {}
    if not isinstance(cluster, dict) or not isinstance(cluster.get("members"), list):
        raise ValueError("/cluster: expected a list of members, found none")  # noqa: TRY004 - bad input, not a bad argument
    patroni = identity.get("patroni")
    # Not every version of Patroni has it in /cluster.
    actual_scope = cluster.get("scope", patroni.get("scope") if isinstance(patroni, dict) else None)
    if scope is not None and actual_scope != scope:
        raise ValueError(f"expected the scope {scope!r}, found {str(actual_scope)[:100]!r}")
    items = cluster["members"]
    if len(items) > MAX_MEMBERS:
        raise ValueError(f"/cluster: expected at most {MAX_MEMBERS} members, found {len(items)}")
    members: dict[str, Member] = {}
    left_out: list[str] = []
    for item in items:
        try:
            member = _member(item)
        except ValueError as error:
            left_out.append(str(error))
        else:
            members.setdefault(member.name, member)
    if not members:
        raise ValueError(f"/cluster: expected at least one member, found none; {'; '.join(left_out)}".rstrip("; "))
    identifier = identity.get("database_system_identifier")
    return Answer(
        tuple(members[name] for name in sorted(members)),
        tuple(left_out),
        str(identifier) if re.fullmatch(r"\d{1,20}", str(identifier)) else None,
    )


def _member(item: Any) -> Member:
    name, host, port = (item.get(key) if isinstance(item, dict) else None for key in ("name", "host", "port"))
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"expected a name of letters, digits and _ . : - (128 at most), found {str(name)[:100]!r}")
    if host is None:
        raise ValueError(f"{name}: has no host yet")
    if not isinstance(host, str) or not _HOST.fullmatch(host):
        raise ValueError(f"{name}: expected a host name or an address, found {str(host)[:100]!r}")
    port = _DEFAULT_PORT if port is None else port
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        raise ValueError(f"{name}: expected a port, found {str(port)[:100]!r}")
    return Member(name, host, port)

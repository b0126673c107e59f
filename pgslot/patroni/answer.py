"""Patroni's part of the configuration, and what its REST API's answers mean: nothing is asked here."""

import re
from dataclasses import dataclass
from typing import Any

from pgslot.config.model import NAME

MAX_MEMBERS = 100
_HOST = re.compile(r"[A-Za-z0-9_.:%-]{1,255}")
"""No comma, which separates hosts for libpq, and no leading / or @, which make a socket of it."""
_DEFAULT_PORT = 5432


@dataclass(frozen=True, slots=True)
class Member:
    """A server of the cluster."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What Patroni said of a cluster at one moment."""

    members: tuple[Member, ...]
    """In the order of their names; at least one."""
    left_out: tuple[str, ...]
    """Why other members are none of them, one line each."""
    system_identifier: str | None
    """None: it did not say."""


def parse_answer(cluster: Any, status: Any, scope: str | None) -> Answer:
    """
    Return what `GET /cluster` and `GET /patroni` of one server say together; `status` is None if it did not say that.

    Raises ValueError for what Patroni would not say, for another scope than expected, and for no usable member at all.
    """
    identity = status if isinstance(status, dict) else {}
    if not isinstance(cluster, dict) or not isinstance(cluster.get("members"), list):
        raise ValueError("/cluster: expected a list of members, found none")  # noqa: TRY004 - of what others sent
    itself = identity.get("patroni")
    told = cluster.get("scope", itself.get("scope") if isinstance(itself, dict) else None)
    if scope is not None and told != scope:
        raise ValueError(f"expected the scope {scope!r}, found {str(told)[:100]!r}")
    found = cluster["members"]
    if len(found) > MAX_MEMBERS:
        raise ValueError(f"/cluster: expected at most {MAX_MEMBERS} members, found {len(found)}")
    members: dict[str, Member] = {}
    left_out: list[str] = []
    for item in found:
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

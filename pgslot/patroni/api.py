"""Patroni's part of the configuration, and what its REST API's answers mean: nothing is asked here."""

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pgslot.config.yaml_values import Value

MOST_URLS = 20
MOST_MEMBERS = 100
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")
"""What a cluster or a node may be called."""
_HOST = re.compile(r"[A-Za-z0-9_.:%-]{1,255}")
"""No comma, which separates hosts for libpq, and no leading / or @, which make a socket of it."""
_DEFAULT_PORT = 5432
_INTERVAL = 15.0
_OPTIONS = ("urls", "scope", "interval", "ca_file", "cert_file", "key_file")


@dataclass(frozen=True, slots=True)
class Patroni:
    """Whom to ask for the members of a cluster, and how."""

    urls: tuple[str, ...]
    """Base URLs of the REST API; one that answers is enough."""
    scope: str | None = None
    """The cluster's name in Patroni; an answer of another one is refused. None: whatever answers."""
    interval: float = _INTERVAL
    """Seconds between two questions."""
    ca_file: Path | None = None
    """In place of the system's certificate authorities."""
    cert_file: Path | None = None
    """The client's, where Patroni asks for one; with key_file."""
    key_file: Path | None = None

    def tls(self) -> ssl.SSLContext | bool:
        """Read the files anew each time, so that one that was replaced is picked up. Raises OSError."""
        files = [file for file in (self.ca_file, self.cert_file, self.key_file) if file is not None]
        if not files:
            return True
        for file in files:
            # Whoever opens it below does not say which one is missing.
            file.read_bytes()
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context


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


def patroni_of(value: Value) -> Patroni:
    """Return what `patroni` of a cluster says: a list of URLs, or a mapping with more. Raises ConfigError."""
    if isinstance(value.data, list):
        return Patroni(tuple(_urls(value)))
    keys = value.mapping("a list of URLs, or a mapping with the key urls", _OPTIONS)
    if "urls" not in keys:
        raise value.error("the key urls")
    if ("cert_file" in keys) != ("key_file" in keys):
        raise value.error("both of cert_file and key_file, or neither", "one of them")
    files = {name: keys[name].path() for name in ("ca_file", "cert_file", "key_file") if name in keys}
    return Patroni(
        tuple(_urls(keys["urls"])),
        keys["scope"].string("the cluster's scope in Patroni") if "scope" in keys else None,
        keys["interval"].duration() if "interval" in keys else _INTERVAL,
        **files,
    )


def _urls(value: Value) -> Iterator[str]:
    items = value.items("a list of URLs of Patroni's REST API")
    if len(items) > MOST_URLS:
        raise value.error(f"at most {MOST_URLS} URLs", str(len(items)))
    for item in items:
        url = item.url()
        if "@" in urlsplit(url).netloc:
            raise item.error("a URL without user and password: Patroni asks for none", "one with (not shown: secrets)")
        yield url


def answer_of(cluster: Any, status: Any, scope: str | None) -> Answer:
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
    if len(found) > MOST_MEMBERS:
        raise ValueError(f"/cluster: expected at most {MOST_MEMBERS} members, found {len(found)}")
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

"""The configuration file as frozen dataclasses; loader.py reads the file, both programs use the result."""

import re
import ssl
from dataclasses import dataclass, replace
from pathlib import Path

from pgslot.config.conninfo import Conninfo, MemberAddresses

PATRONI_INTERVAL = 15.0
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")
"""What a cluster or a node may be called."""


@dataclass(frozen=True, slots=True)
class PatroniConfig:
    """Whom to ask for the members of a cluster, and how."""

    urls: tuple[str, ...]
    """Base URLs of the REST API; one that answers is enough."""
    scope: str | None = None
    """The cluster's name in Patroni; an answer of another one is refused. None: whatever answers."""
    interval: float = PATRONI_INTERVAL
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
class Node:
    """One server, under the `cluster` and `node` labels of its metrics."""

    cluster: str
    name: str
    conninfo: Conninfo


@dataclass(frozen=True, slots=True)
class TerminationPolicy:
    """What its owner allows. Names are whole names, not patterns; those of each list that is not None have to match."""

    users: tuple[str, ...] | None
    applications: tuple[str, ...] | None
    """At least one of users and applications is not None."""
    databases: tuple[str, ...] | None
    idle_in_transaction_for: float
    """Seconds since pg_stat_activity.state_change."""
    at_most_per_hour: int
    """On this cluster, counted by its primary: whoever's healer it was."""
    dry_run: bool

    @property
    def rule(self) -> str:
        """What allowed it, in words."""
        lists = {"users": self.users, "applications": self.applications, "databases": self.databases}
        given = [f"{name}: [{', '.join(names)}]" for name, names in lists.items() if names is not None]
        return f"{', '.join(given)}, idle_in_transaction_for: {self.idle_in_transaction_for:g}s"


@dataclass(frozen=True, slots=True)
class TerminationConfig:
    """`end_transactions`: as whom the healer may end transactions that are about to cost a slot, and whose."""

    conninfo: Conninfo
    policy: TerminationPolicy


@dataclass(frozen=True, slots=True)
class HealerConfig:
    """Where and whether the healer acts for one cluster."""

    conninfo: Conninfo
    enabled: bool
    dry_run: bool
    fallback: bool = False
    """`fallback: emit_message`: without the function, a message makes the server log the record by itself."""
    disabled_reason: str = ""
    """Why it is not enabled, in the words of whoever switched it off."""
    disabled_everywhere: bool = False
    """Switched off by `healer.enabled`, for all clusters, and not by its own `enabled`."""
    termination: TerminationConfig | None = None
    """None: no transaction is ever ended."""

    def with_members(self, whereabouts: MemberAddresses) -> "HealerConfig":
        """Return the same for servers that are there, where a conninfo names none."""
        ending = self.termination
        if ending is not None:
            ending = replace(ending, conninfo=replace(ending.conninfo, members=whereabouts))
        return replace(self, conninfo=replace(self.conninfo, members=whereabouts), termination=ending)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Servers that replicate from one another; `healer` None: the cluster is only observed."""

    name: str
    nodes: tuple[Node, ...]
    """As configured; where Patroni tells them, those that it has told, none before its first answer."""
    healer: HealerConfig | None
    patroni: PatroniConfig | None = None
    """Who tells the nodes. None: the configuration does."""
    member: Conninfo | None = None
    """How to reach each of them then, but for the place."""
    system_identifier: str | None = None
    """As Patroni tells it. None: what most nodes have counts."""

    @property
    def as_configured(self) -> "Cluster":
        """The same without what Patroni has told: whether somebody has changed it."""
        return self if self.patroni is None else replace(self, nodes=(), system_identifier=None)


@dataclass(frozen=True, slots=True)
class HealerSettings:
    """How the healer paces itself. Times in seconds."""

    burst_interval: float = 1.0
    burst_calls: int = 5
    interval: float = 10.0
    give_up_after: float = 3600.0
    calls_per_episode: int = 400
    """Enough for an hour at the other settings' defaults, no more."""
    calls_per_hour: int = 500
    """For each cluster, over all its episodes."""
    clusters_at_once: int = 10
    """More clusters in need than this at once point to another trouble than a missing record."""
    alertmanager_url: str | None = None
    """Base URL; None: running alerts are not picked up again after a restart."""
    webhook_token_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file."""

    clusters: tuple[Cluster, ...]
    healer: HealerSettings

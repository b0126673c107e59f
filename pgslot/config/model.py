"""The configuration file as frozen dataclasses. loader.py creates them."""

import re
import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path

from pgslot.config.conninfo import Conninfo, MemberAddresses

PATRONI_INTERVAL = 15.0
"""Seconds between two polls of a cluster's Patroni, unless `interval` says otherwise."""
IDLE_IN_TRANSACTION_FOR = 300.0
"""Seconds that a transaction has to be idle before it may be ended, unless `end_transactions` says otherwise."""

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")
"""Names of clusters and nodes."""


@dataclass(frozen=True, slots=True)
class PatroniConfig:
    """Patroni's REST API, which lists the members of a cluster."""

    urls: tuple[str, ...]
    """Base URLs; one that answers is enough."""
    scope: str | None = None
    """The cluster's name in Patroni; an answer for another scope is refused. None: any scope."""
    interval: float = PATRONI_INTERVAL
    """Seconds between two polls."""
    ca_file: Path | None = None
    """None: the system's certificate authorities."""
    cert_file: Path | None = None
    """The client certificate, if Patroni requires one; with key_file."""
    key_file: Path | None = None
    place: str = field(default="", compare=False, repr=False)
    """File, line and key of the section, for errors."""

    def tls(self) -> ssl.SSLContext | bool:
        """Return what aiohttp takes as `ssl`, with the files as they are now. Raises OSError, which ssl.SSLError is."""
        files = [file for file in (self.ca_file, self.cert_file, self.key_file) if file is not None]
        if not files:
            return True
        for file in files:
            # The ssl module does not say which file is missing.
            file.read_bytes()
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context


@dataclass(frozen=True, slots=True)
class WalVolume:
    """The volume of a node's WAL directory, as far as the configuration describes it."""

    size_bytes: int | None = None
    """The room that WAL may take there. None: not given."""
    filesystem: tuple[str, str] | None = None
    """The labels instance and mountpoint of node_exporter's series. None: not given."""
    claim: tuple[str, str] | None = None
    """The labels namespace and persistentvolumeclaim of the kubelet's series. None: not given."""

    def at(self, node: str) -> "WalVolume":
        """Return the volume of this node, whose name replaces {node} in the labels."""

        def fill_in(labels: tuple[str, str] | None) -> tuple[str, str] | None:
            return None if labels is None else (labels[0].replace("{node}", node), labels[1].replace("{node}", node))

        return replace(self, filesystem=fill_in(self.filesystem), claim=fill_in(self.claim))


@dataclass(frozen=True, slots=True)
class Node:
    """One server; its metrics have the labels `cluster` and `node`."""

    cluster: str
    name: str
    conninfo: Conninfo
    wal_volume: WalVolume = field(default=WalVolume(), compare=False)
    """Not compared: a node with another volume is the same server, and keeps its connection and its history."""


@dataclass(frozen=True, slots=True)
class TerminationPolicy:
    """
    Which transactions the owner of a cluster allows to be ended.

    A session has to match every list that is not None. Names are complete names, not patterns.
    """

    users: tuple[str, ...] | None
    applications: tuple[str, ...] | None
    """At least one of users and applications is not None."""
    databases: tuple[str, ...] | None
    idle_in_transaction_for: float
    """Seconds since pg_stat_activity.state_change."""
    at_most_per_hour: int
    """On this cluster, by all healers together; the primary counts."""
    dry_run: bool

    @property
    def rule(self) -> str:
        """The policy in words, for logs and audits."""
        lists = {"users": self.users, "applications": self.applications, "databases": self.databases}
        shown = [f"{name}: [{', '.join(names)}]" for name, names in lists.items() if names is not None]
        return f"{', '.join(shown)}, idle_in_transaction_for: {self.idle_in_transaction_for:g}s"


@dataclass(frozen=True, slots=True)
class TerminationConfig:
    """`end_transactions`: the role that ends transactions which endanger a slot, and which of them it may end."""

    conninfo: Conninfo
    policy: TerminationPolicy


@dataclass(frozen=True, slots=True)
class HealerConfig:
    """`healer` of a cluster: whether and how the healer acts on it."""

    conninfo: Conninfo
    enabled: bool
    dry_run: bool
    fallback: bool = False
    """`fallback: emit_message`: without pg_log_standby_snapshot(), a message makes the server log the record itself."""
    disabled_reason: str = ""
    """Why it is not enabled, in the operator's words; may be empty."""
    disabled_everywhere: bool = False
    """Switched off by the top-level `healer.enabled`, for all clusters, not by its own `enabled`."""
    termination: TerminationConfig | None = None
    """None: the healer never ends a transaction."""

    def with_members(self, addresses: MemberAddresses) -> "HealerConfig":
        """Return the same with these servers as hosts of every conninfo that has none."""
        termination = self.termination
        if termination is not None:
            termination = replace(termination, conninfo=replace(termination.conninfo, members=addresses))
        return replace(self, conninfo=replace(self.conninfo, members=addresses), termination=termination)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Servers that replicate from one another."""

    name: str
    nodes: tuple[Node, ...]
    """As configured, or as Patroni lists them: empty before its first answer."""
    healer: HealerConfig | None
    """None: the cluster is only observed."""
    patroni: PatroniConfig | None = None
    """None: the nodes are configured."""
    member: Conninfo | None = None
    """With patroni: the conninfo of every node, but for host and port."""
    wal_volume: WalVolume = field(default=WalVolume(), compare=False)
    """With patroni: the volume of every node. Not compared, like a node's."""
    system_identifier: str | None = None
    """From Patroni. None: the identifier of the majority of nodes counts."""

    @property
    def as_configured(self) -> "Cluster":
        """The cluster without what Patroni listed: equal before and after a reload that did not change it."""
        return self if self.patroni is None else replace(self, nodes=(), system_identifier=None)


@dataclass(frozen=True, slots=True)
class HealerSettings:
    """The top-level `healer`: how often the healer acts, and where it listens. Times in seconds."""

    burst_interval: float = 1.0
    burst_calls: int = 5
    interval: float = 10.0
    give_up_after: float = 3600.0
    calls_per_episode: int = 400
    """Just enough for an hour at the other settings' defaults."""
    calls_per_hour: int = 500
    """Per cluster, over all its episodes."""
    clusters_at_once: int = 10
    """If more clusters than this need help at once, a missing record is unlikely to be the cause."""
    alertmanager_url: str | None = None
    """Base URL. None: alerts that fire are not picked up again after a restart."""
    webhook_token_file: Path | None = None
    """None: webhooks need no token."""
    webhook_token_place: str = field(default="", compare=False, repr=False)
    """File, line and key of `webhook_token_file`, for errors."""


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file, with its includes."""

    clusters: tuple[Cluster, ...]
    healer: HealerSettings

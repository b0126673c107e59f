"""The configuration file, read by both processes, as frozen dataclasses."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from pgslot.config import termination_policy
from pgslot.config.conninfo import Conninfo as Conninfo  # noqa: PLC0414 - whoever has a configuration has these
from pgslot.config.conninfo import Whereabouts, conninfo_of, is_conninfo
from pgslot.config.include import clusters_of
from pgslot.config.yaml_values import ConfigError, Value, read
from pgslot.patroni.api import NAME, Patroni, patroni_of

LONGEST_REASON = 200
_REASON = f"one line of at most {LONGEST_REASON} characters"
_FALLBACKS = "emit_message or none"


@dataclass(frozen=True, slots=True)
class Node:
    """One server, under the `cluster` and `node` labels of its metrics."""

    cluster: str
    name: str
    conninfo: Conninfo


@dataclass(frozen=True, slots=True)
class Ending:
    """`end_transactions`: as whom the healer may end transactions that are about to cost a slot, and whose."""

    conninfo: Conninfo
    policy: termination_policy.EndPolicy


@dataclass(frozen=True, slots=True)
class HealerTarget:
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
    ending: Ending | None = None
    """None: no transaction is ever ended."""

    def anywhere(self, whereabouts: Whereabouts) -> "HealerTarget":
        """Return the same for servers that are there, where a conninfo names none."""
        ending = self.ending
        if ending is not None:
            ending = replace(ending, conninfo=replace(ending.conninfo, anywhere=whereabouts))
        return replace(self, conninfo=replace(self.conninfo, anywhere=whereabouts), ending=ending)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Servers that replicate from one another; `healer` None: the cluster is only observed."""

    name: str
    nodes: tuple[Node, ...]
    """As configured; where Patroni tells them, those that it has told, none before its first answer."""
    healer: HealerTarget | None
    patroni: Patroni | None = None
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


def load(path: Path) -> Config:
    """Read the file. Raises ConfigError, which names the file, the line, the key, the expected and the found."""
    top = read(path)
    keys = top.mapping("a mapping with the key clusters", ("clusters", "include", "healer"))
    if "clusters" not in keys and "include" not in keys:
        raise top.error("the key clusters, or include")
    healer = _settings(keys["healer"]) if "healer" in keys else HealerSettings()
    known = tuple(_cluster(name, value) for name, value in clusters_of(keys))
    if not known:
        raise keys.get("clusters", top).error("at least one cluster", None if "clusters" in keys else "none")
    switch = keys["healer"].mapping("a mapping") if "healer" in keys else {}
    if _enabled(switch):
        return Config(known, healer)
    return Config(tuple(_switched_off(cluster, _reason(switch)) for cluster in known), healer)


def check_secrets(config: Config, *, healer: bool) -> None:
    """
    Read the secrets of the nodes and of Patroni, and the healer's if asked to: the exporter needs none of the latter.

    Raises ConfigError for the first that cannot be used.
    """
    for cluster in config.clusters:
        for node in cluster.nodes:
            node.conninfo.read()
        if cluster.member is not None:
            cluster.member.at("any", 1).read()
        if cluster.patroni is not None:
            _check_certificates(cluster.name, cluster.patroni)
        if healer and cluster.healer is not None:
            cluster.healer.conninfo.secret()
            if cluster.healer.ending is not None:
                cluster.healer.ending.conninfo.secret()


def _check_certificates(name: str, patroni: Patroni) -> None:
    try:
        patroni.tls()
    except OSError as error:
        where, expected = f"clusters.{name}.patroni", "certificates in ca_file, cert_file and key_file"
        raise ConfigError(f"{where}: expected {expected}, found: {error}") from None


def single(conninfo: str) -> Config:
    """Return the configuration that `--conninfo` stands for. Raises ConfigError when libpq cannot parse it."""
    if not is_conninfo(conninfo):
        raise ConfigError("--conninfo: expected libpq's key=value pairs or a URI, found text that is neither")
    node = Node("default", "default", Conninfo(conninfo))
    return Config((Cluster("default", (node,), None),), HealerSettings())


def _cluster(name: str, value: Value) -> Cluster:
    _check_name(name, value)
    known = ("nodes", "patroni", "conninfo", "conninfo_file", "healer")
    keys = value.mapping("a mapping with the key nodes, or patroni", known)
    if ("nodes" in keys) == ("patroni" in keys):
        raise value.error("exactly one of the keys nodes and patroni", "both" if "nodes" in keys else "neither")
    target = _target(keys["healer"]) if "healer" in keys else None
    if "patroni" in keys:
        if target is not None:
            # Until Patroni has told of somebody it leads to nobody, and never to libpq's default.
            target = target.anywhere(Whereabouts())
        member = conninfo_of(value, keys, without_place=True)
        return Cluster(name, (), target, patroni_of(keys["patroni"]), member)
    for needless in ("conninfo", "conninfo_file"):
        if needless in keys:
            raise keys[needless].error(f"{needless} beside patroni, or in each of the nodes", "it beside nodes")
    nodes = keys["nodes"].mapping("a mapping of node names")
    if not nodes:
        raise keys["nodes"].error("at least one node")
    return Cluster(name, tuple(_node(name, node, node_value) for node, node_value in nodes.items()), target)


def _node(cluster: str, name: str, value: Value) -> Node:
    _check_name(name, value)
    keys = value.mapping("a mapping with conninfo or conninfo_file", ("conninfo", "conninfo_file"))
    return Node(cluster, name, conninfo_of(value, keys))


def _target(value: Value) -> HealerTarget:
    known = ("conninfo", "conninfo_file", "enabled", "disabled_reason", "dry_run", "fallback", "end_transactions")
    keys = value.mapping("a mapping with conninfo or conninfo_file", known)
    if "fallback" in keys and keys["fallback"].string(_FALLBACKS) not in ("emit_message", "none"):
        raise keys["fallback"].error(_FALLBACKS)
    conninfo = conninfo_of(value, keys)
    return HealerTarget(
        conninfo,
        enabled=_enabled(keys),
        dry_run=keys["dry_run"].boolean() if "dry_run" in keys else False,
        fallback="fallback" in keys and keys["fallback"].string(_FALLBACKS) == "emit_message",
        disabled_reason=_reason(keys),
        ending=_ending(keys["end_transactions"], conninfo) if "end_transactions" in keys else None,
    )


def _ending(value: Value, healer: Conninfo) -> Ending:
    known = ("conninfo", "conninfo_file", *termination_policy.KEYS)
    keys = value.mapping("a mapping with conninfo or conninfo_file, and users or applications", known)
    conninfo = conninfo_of(value, keys)
    # Where both are in the file; what the role may do the server knows.
    user = conninfo_to_dict(conninfo.text).get("user")
    if user is not None and user == conninfo_to_dict(healer.text).get("user"):
        raise value.error("a role of its own", "that of the healer's other conninfo")
    return Ending(conninfo, termination_policy.read_policy(value, keys))


def _enabled(keys: dict[str, Value]) -> bool:
    return keys["enabled"].boolean() if "enabled" in keys else True


def _reason(keys: dict[str, Value]) -> str:
    if "disabled_reason" not in keys:
        return ""
    reason = keys["disabled_reason"].string(_REASON)
    if len(reason) > LONGEST_REASON or not reason.isprintable():
        raise keys["disabled_reason"].error(_REASON)
    return reason


def _switched_off(cluster: Cluster, reason: str) -> Cluster:
    """Return the cluster as `healer.enabled: false` leaves it; its own switch, if off as well, keeps its reason."""
    target = cluster.healer
    if target is None or not target.enabled:
        return cluster
    return replace(cluster, healer=replace(target, enabled=False, disabled_reason=reason, disabled_everywhere=True))


def _settings(value: Value) -> HealerSettings:
    durations = ("burst_interval", "interval", "give_up_after")
    numbers = ("burst_calls", "calls_per_episode", "calls_per_hour", "clusters_at_once")
    known = (*durations, *numbers, "alertmanager_url", "webhook_token_file", "enabled", "disabled_reason")
    keys = value.mapping(f"a mapping with keys out of {', '.join(known)}", known)
    given: dict[str, Any] = {name: keys[name].duration() for name in durations if name in keys}
    given |= {name: keys[name].positive_integer() for name in numbers if name in keys}
    if "alertmanager_url" in keys:
        given["alertmanager_url"] = keys["alertmanager_url"].url()
    if "webhook_token_file" in keys:
        given["webhook_token_file"] = keys["webhook_token_file"].path()
    return HealerSettings(**given)


def read_token(path: Path) -> str:
    """Return the webhook token without the line end. Raises ConfigError when the file cannot be read or is empty."""
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected a readable file with the webhook token, found: {error}") from None
    if not token:
        raise ConfigError(f"{path}: expected the webhook token, found an empty file")
    return token


def _check_name(name: str, value: Value) -> None:
    if not NAME.fullmatch(name):
        raise value.error("a name of letters, digits and _ . : - (128 at most)", repr(name))

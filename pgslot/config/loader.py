"""
Reads pgslot.yml, and the files that it includes, into the dataclasses of model.py.

Every ConfigError names the file, the line, the key, what was expected and what was found.
"""

from collections.abc import Iterator
from dataclasses import replace
from glob import glob, has_magic
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict

from pgslot.cli.errors import ConfigError
from pgslot.config import keys as sections
from pgslot.config.conninfo import CONNINFO, Conninfo, MemberAddresses, conninfo_fault, read_conninfo
from pgslot.config.model import (
    IDLE_IN_TRANSACTION_FOR,
    NAME,
    PATRONI_INTERVAL,
    Cluster,
    Config,
    HealerConfig,
    HealerSettings,
    Node,
    PatroniConfig,
    TerminationConfig,
    TerminationPolicy,
    WalVolume,
)
from pgslot.config.wal_volume import read_wal_volume
from pgslot.config.yaml_values import Value, read

MAX_PATRONI_URLS = 20
MAX_REASON_LENGTH = 200
_REASON = f"one line of at most {MAX_REASON_LENGTH} characters"
_FALLBACKS = "emit_message or none"
_POLICY_NAMES = "a list of names, each in full, at least one"


def load(path: Path) -> Config:
    """Return the configuration of this file and its includes. Raises ConfigError."""
    top = read(path)
    keys = top.mapping("a mapping with the key clusters", sections.TOP.names)
    if "clusters" not in keys and "include" not in keys:
        raise top.error("the key clusters, or include")
    healer = _settings(keys["healer"]) if "healer" in keys else HealerSettings()
    clusters = tuple(_cluster(name, value) for name, value in _cluster_sections(keys))
    if not clusters:
        raise keys.get("clusters", top).error("at least one cluster", None if "clusters" in keys else "none")
    switch = keys["healer"].mapping("a mapping") if "healer" in keys else {}
    if _enabled(switch):
        return Config(clusters, healer)
    return Config(tuple(_switched_off(cluster, _reason(switch)) for cluster in clusters), healer)


def single(conninfo: str) -> Config:
    """Return the configuration of one node, for `--conninfo`. Raises ConfigError if libpq cannot parse it."""
    if (fault := conninfo_fault(conninfo)) is not None:
        raise ConfigError(f"--conninfo: expected {CONNINFO}, found {fault}")
    node = Node("default", "default", Conninfo(conninfo))
    return Config((Cluster("default", (node,), None),), HealerSettings())


def _cluster(name: str, value: Value) -> Cluster:
    _check_name(name, value)
    keys = value.mapping("a mapping with the key nodes, or patroni", sections.CLUSTER.names)
    if ("nodes" in keys) == ("patroni" in keys):
        raise value.error("exactly one of the keys nodes and patroni", "both" if "nodes" in keys else "neither")
    healer = _healer(keys["healer"]) if "healer" in keys else None
    volume = read_wal_volume(keys, WalVolume())
    if "patroni" in keys:
        if healer is not None:
            # No members until Patroni answers: an error at each connection, instead of libpq's default host.
            healer = healer.with_members(MemberAddresses())
        member = read_conninfo(value, keys, without_endpoint=True)
        return Cluster(name, (), healer, _patroni(keys["patroni"]), member, volume)
    for key in ("conninfo", "conninfo_file", "password_command", "password_ttl"):
        if key in keys:
            raise keys[key].error(f"{key} beside patroni, or in each of the nodes", "it beside nodes")
    nodes = keys["nodes"].mapping("a mapping of node names")
    if not nodes:
        raise keys["nodes"].error("at least one node")
    return Cluster(name, tuple(_node(name, node, node_value, volume) for node, node_value in nodes.items()), healer)


def _node(cluster: str, name: str, value: Value, volume: WalVolume) -> Node:
    """Return a node of the cluster, whose `volume` is the node's for what the node does not say."""
    _check_name(name, value)
    keys = value.mapping("a mapping with conninfo or conninfo_file", sections.NODE.names)
    return Node(cluster, name, read_conninfo(value, keys), read_wal_volume(keys, volume).at(name))


def _healer(value: Value) -> HealerConfig:
    """Return the `healer` of a cluster."""
    keys = value.mapping("a mapping with conninfo or conninfo_file", sections.HEALER.names)
    if "fallback" in keys and keys["fallback"].string(_FALLBACKS) not in ("emit_message", "none"):
        raise keys["fallback"].error(_FALLBACKS)
    conninfo = read_conninfo(value, keys)
    return HealerConfig(
        conninfo,
        enabled=_enabled(keys),
        dry_run=keys["dry_run"].boolean() if "dry_run" in keys else False,
        fallback="fallback" in keys and keys["fallback"].string(_FALLBACKS) == "emit_message",
        disabled_reason=_reason(keys),
        termination=_termination(keys["end_transactions"], conninfo) if "end_transactions" in keys else None,
    )


def _termination(value: Value, healer: Conninfo) -> TerminationConfig:
    """Return the `end_transactions` of a cluster's healer, which otherwise connects with `healer`."""
    expected = "a mapping with conninfo or conninfo_file, and users or applications"
    keys = value.mapping(expected, sections.END_TRANSACTIONS.names)
    conninfo = read_conninfo(value, keys)
    # Only if both conninfos name a user. What the roles may do is for the server to say.
    user = conninfo_to_dict(conninfo.text).get("user")
    if user is not None and user == conninfo_to_dict(healer.text).get("user"):
        raise value.error("a role of its own", "that of the healer's other conninfo")
    return TerminationConfig(conninfo, _termination_policy(value, keys))


def _enabled(keys: dict[str, Value]) -> bool:
    return keys["enabled"].boolean() if "enabled" in keys else True


def _reason(keys: dict[str, Value]) -> str:
    if "disabled_reason" not in keys:
        return ""
    reason = keys["disabled_reason"].string(_REASON)
    if len(reason) > MAX_REASON_LENGTH or not reason.isprintable():
        raise keys["disabled_reason"].error(_REASON)
    return reason


def _switched_off(cluster: Cluster, reason: str) -> Cluster:
    """Return the cluster under the top-level `healer.enabled: false`; its own switch, if off, keeps its reason."""
    healer = cluster.healer
    if healer is None or not healer.enabled:
        return cluster
    return replace(cluster, healer=replace(healer, enabled=False, disabled_reason=reason, disabled_everywhere=True))


def _settings(value: Value) -> HealerSettings:
    """Return the top-level `healer`."""
    durations = ("burst_interval", "interval", "give_up_after")
    numbers = ("burst_calls", "calls_per_episode", "calls_per_hour", "clusters_at_once")
    allowed = sections.SETTINGS.names
    keys = value.mapping(f"a mapping with keys out of {', '.join(allowed)}", allowed)
    given: dict[str, Any] = {name: keys[name].duration() for name in durations if name in keys}
    given |= {name: keys[name].positive_integer() for name in numbers if name in keys}
    if "alertmanager_url" in keys:
        given["alertmanager_url"] = keys["alertmanager_url"].url()
    if "webhook_token_file" in keys:
        given["webhook_token_file"] = keys["webhook_token_file"].path()
        given["webhook_token_place"] = keys["webhook_token_file"].place
    return HealerSettings(**given)


def _check_name(name: str, value: Value) -> None:
    if not NAME.fullmatch(name):
        raise value.error("a name of letters, digits and _ . : - (128 at most)", repr(name))


def _cluster_sections(main: dict[str, Value]) -> Iterator[tuple[str, Value]]:
    """
    Yield the name and section of every cluster: those of the main file first, then those of its includes.

    Raises ConfigError. For a name that is used twice it has both places.
    """
    sections = [main["clusters"]] if "clusters" in main else []
    if "include" in main:
        sections += [_included_clusters(file) for file in _included_files(main["include"])]
    seen: dict[str, Value] = {}
    for section in sections:
        for name, value in section.mapping("a mapping of cluster names").items():
            if name in seen:
                first = f"{seen[name].file}:{seen[name].line}"
                raise value.error("each cluster once", f"one that is in {first} as well")
            seen[name] = value
            yield name, value


def _included_files(include: Value) -> Iterator[Path]:
    """Yield paths, relative to the main file. Matches of a pattern are sorted; only a pattern may match nothing."""
    for item in include.items("a list of file names or patterns such as clusters/*.yml"):
        name = str(item.path())
        if not has_magic(name):
            yield Path(name)
        else:
            yield from map(Path, sorted(glob(name)))  # noqa: PTH207 - the folder may be a pattern, too


def _included_clusters(file: Path) -> Value:
    top = read(file)
    keys = top.mapping("a mapping with the key clusters", ("clusters",))
    if "clusters" not in keys:
        raise top.error("the key clusters")
    return keys["clusters"]


def _patroni(value: Value) -> PatroniConfig:
    """Return the `patroni` of a cluster, which is a list of URLs, or a mapping with more."""
    if isinstance(value.data, list):
        return PatroniConfig(tuple(_patroni_urls(value)))
    keys = value.mapping("a list of URLs, or a mapping with the key urls", sections.PATRONI.names)
    if "urls" not in keys:
        raise value.error("the key urls")
    if ("cert_file" in keys) != ("key_file" in keys):
        raise value.error("both of cert_file and key_file, or neither", "one of them")
    files = {name: keys[name].path() for name in ("ca_file", "cert_file", "key_file") if name in keys}
    return PatroniConfig(
        tuple(_patroni_urls(keys["urls"])),
        keys["scope"].string("the cluster's scope in Patroni") if "scope" in keys else None,
        keys["interval"].duration() if "interval" in keys else PATRONI_INTERVAL,
        **files,
        place=value.place,
    )


def _patroni_urls(value: Value) -> Iterator[str]:
    items = value.items("a list of URLs of Patroni's REST API")
    if len(items) > MAX_PATRONI_URLS:
        raise value.error(f"at most {MAX_PATRONI_URLS} URLs", str(len(items)))
    for item in items:
        url = item.url()
        if "@" in urlsplit(url).netloc:
            raise item.error("a URL without user and password: Patroni asks for none", "one with (not shown: secrets)")
        yield url


def _termination_policy(section: Value, keys: dict[str, Value]) -> TerminationPolicy:
    """Return the keys of `end_transactions` that say which transactions may be ended."""
    if "users" not in keys and "applications" not in keys:
        raise section.error("at least one of the keys users and applications", "neither: that would be everybody")
    return TerminationPolicy(
        users=_names(keys, "users"),
        applications=_names(keys, "applications"),
        databases=_names(keys, "databases"),
        idle_in_transaction_for=(
            keys["idle_in_transaction_for"].duration() if "idle_in_transaction_for" in keys else IDLE_IN_TRANSACTION_FOR
        ),
        at_most_per_hour=keys["at_most_per_hour"].positive_integer() if "at_most_per_hour" in keys else 1,
        dry_run=keys["dry_run"].boolean() if "dry_run" in keys else True,
    )


def _names(keys: dict[str, Value], key: str) -> tuple[str, ...] | None:
    if key not in keys:
        return None
    value = keys[key]
    if not isinstance(value.data, list) or not value.data:
        raise value.error(_POLICY_NAMES)
    names = tuple(item.string("a name, in quotes if it reads as something else") for item in value.data)
    for item, name in zip(value.data, names, strict=True):
        if not name:
            # Every client that does not set application_name has an empty one.
            raise item.error("a name")
    return names

"""Each cluster's servers: reachable, answering the exporter's probes, set up for slots, and the healer able to act."""

import asyncio
from collections.abc import Iterator, Mapping

from healer.doctor.checks.failover import judge_failover
from healer.doctor.checks.standbys import judge_unconfigured_standbys
from healer.doctor.result import CheckStatus, Finding
from healer.doctor.server_facts import Server, ServerFacts, ServerQueryError, fetch_server
from healer.episodes.partial_snapshot import COLLECT_TIMEOUT
from healer.remedies.attempt import APPLICATION_NAME, REPLACEABLE, Capability, Unavailable
from healer.remedies.registry import REMEDIES
from pgslot.config.model import Cluster, Config, HealerConfig, Node
from pgslot.diagnosis.wal_level import depends_on_primary, has_dependent_slots, slots_keeping_decoding
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.model import QueryStatus as ProbeStatus
from pgslot.snapshot.queries import SUPPORTED

FEW = 2
"""With fewer slots the next one to be dropped, or lost, is the last one."""

ServerOrError = Server | str
"""A server's answer, or why there was none."""


async def check_servers(config: Config) -> list[Finding]:
    """Examine all clusters at the same time."""
    # Of a cluster whose members Patroni did not tell nothing more can be said.
    examined = await asyncio.gather(*(_cluster(cluster) for cluster in config.clusters if cluster.nodes))
    return [finding for findings in examined for finding in findings]


async def _cluster(cluster: Cluster) -> list[Finding]:
    observer = ClusterCollector([cluster], APPLICATION_NAME)
    try:
        # One after the other, so that a probe does not wait for the inquiry's statements.
        servers = dict(
            zip(cluster.nodes, await asyncio.gather(*(_inquired(node) for node in cluster.nodes)), strict=True)
        )
        snapshot = await observer.collect_cluster(cluster.name, COLLECT_TIMEOUT)
    finally:
        await observer.close()
    findings: list[Finding] = []
    for node, server in servers.items():
        findings += judge_node(node, server, snapshot.node(node.name))
    findings.append(judge_primary(cluster, servers))
    findings += judge_failover(snapshot)
    findings += judge_last_slot(snapshot)
    findings += judge_unconfigured_standbys(snapshot)
    if cluster.healer is None:
        findings.append(judge_identities(cluster, servers, None))
        return [*findings, Finding("capability", cluster.name, CheckStatus.SKIPPED, "no healer section: only observed")]
    targets = {name: target for name, remedy in REMEDIES.items() if (target := remedy.target(cluster)) is not None}
    acting = dict(zip(targets, await asyncio.gather(*map(_acting, targets.values())), strict=True))
    findings.append(judge_identities(cluster, servers, *acting.values()))
    for i, (name, target) in enumerate(targets.items()):
        # The first one each cluster with a healer has.
        subject = f"{cluster.name}, {name}" if i else cluster.name
        findings.append(judge_capability(subject, target, await REMEDIES[name].check(target), acting[name]))
    return findings


async def _inquired(node: Node) -> ServerOrError:
    try:
        return await fetch_server(node.conninfo)
    except ServerQueryError as error:
        return str(error)


async def _acting(target: HealerConfig) -> ServerOrError:
    if not target.enabled:
        return "enabled: false"
    try:
        return await fetch_server(target.conninfo)
    except ServerQueryError as error:
        return str(error)


def judge_node(node: Node, server: ServerOrError, snapshot: NodeSnapshot | None) -> Iterator[Finding]:
    """Say what holds for one node."""
    subject = f"{node.cluster}/{node.name}"
    if isinstance(server, str):
        remedy = "Start it, or put host, port, password, pg_hba.conf or firewall right. Roles: pg-slot-healer grants."
        yield Finding("node", subject, CheckStatus.FAILED, server, remedy)
        for name in ("probes", "wal_level"):
            yield Finding(name, subject, CheckStatus.SKIPPED, "the node did not answer")
        return
    facts = server.facts
    role = "standby" if facts.in_recovery else "primary"
    found = f"PostgreSQL {facts.version}, {role}, as {facts.role} in database {facts.database}"
    if facts.superuser:
        remedy = "Observe as a role of its own: pg-slot-healer grants."
        yield Finding("node", subject, CheckStatus.WARNING, f"{found}, who is a superuser", remedy)
    else:
        yield Finding("node", subject, CheckStatus.OK, found)
    yield _judge_probes(subject, server, snapshot)
    yield _judge_wal_level(subject, facts)
    if facts.in_recovery and facts.version_num >= 160000:
        yield _judge_standby(subject, server)


def _judge_wal_level(subject: str, facts: ServerFacts) -> Finding:
    if facts.wal_level == "logical":
        return Finding("wal_level", subject, CheckStatus.OK, "logical")
    if facts.version_num >= 190000 and facts.wal_level == "replica":
        found = "replica, until the primary's first logical slot is created"
        if not facts.in_recovery:
            return Finding("wal_level", subject, CheckStatus.OK, found)
        remedy = "Set wal_level = logical, or keep a logical slot on the primary: until then none can be created here."
        return Finding("wal_level", subject, CheckStatus.WARNING, found, remedy)
    remedy = "Set wal_level = logical and restart the server: no logical slot can be created otherwise."
    return Finding("wal_level", subject, CheckStatus.FAILED, facts.wal_level, remedy)


def _judge_probes(subject: str, server: Server, snapshot: NodeSnapshot | None) -> Finding:
    statuses = snapshot.statuses if snapshot is not None else {}
    failed = {name: status for name, status in statuses.items() if status is not ProbeStatus.OK}
    if statuses and not failed:
        return Finding("probes", subject, CheckStatus.OK, f"{' '.join(statuses)}: ok")
    if ProbeStatus.WRONG_CLUSTER in failed.values():
        found = "a server of another cluster than most nodes': what it shows is left out, see `same cluster`"
        return Finding("probes", subject, CheckStatus.SKIPPED, found)
    found = ", ".join(f"{name}: {status}" for name, status in failed.items())
    if ProbeStatus.PERMISSION_DENIED in failed.values():
        quoted = '"' + server.facts.role.replace('"', '""') + '"'
        remedy = f"As a superuser on the primary: GRANT pg_read_all_stats, pg_read_all_settings TO {quoted};"
    elif ProbeStatus.UNSUPPORTED in failed.values():
        remedy = f"Supported are PostgreSQL {SUPPORTED[0]} to {SUPPORTED[-1]}."
    elif ProbeStatus.TIMEOUT in failed.values():
        remedy = "The server is slow or its catalogs are locked: see pg_stat_activity."
    else:
        remedy = "See the exporter's log, and the server's, for the error."
    return Finding("probes", subject, CheckStatus.FAILED, found, remedy)


def _judge_standby(subject: str, server: Server) -> Finding:
    """From 16 on a standby can have logical slots, which lose their catalog rows to a vacuum on the primary."""
    facts = server.facts
    lacking = [
        text
        for lacks, text in (
            (not facts.hot_standby_feedback, "hot_standby_feedback is off"),
            (not facts.primary_slot_name, "primary_slot_name is empty"),
        )
        if lacks
    ]
    if not lacking:
        return Finding("standby", subject, CheckStatus.OK, "hot_standby_feedback on, primary_slot_name set")
    remedy = (
        "Only if logical slots are to live here: set both, or a vacuum on the primary removes catalog rows that a slot"
        " needs, at once or while the standby is away, and the slot is invalidated."
    )
    return Finding("standby", subject, CheckStatus.WARNING, ", ".join(lacking), remedy)


def judge_primary(cluster: Cluster, servers: Mapping[Node, ServerOrError]) -> Finding:
    """Say which node is the primary; who blocks a creation on a standby is seen there only."""
    answers = {node.name: server for node, server in servers.items() if isinstance(server, Server)}
    primaries = [name for name, server in answers.items() if not server.facts.in_recovery]
    if len(primaries) == 1:
        return Finding("primary", cluster.name, CheckStatus.OK, primaries[0])
    if primaries:
        remedy = "A split brain, or nodes of several clusters under one name: stop one, or list it under its own."
        return Finding("primary", cluster.name, CheckStatus.FAILED, f"several: {', '.join(primaries)}", remedy)
    if len(answers) < len(servers):
        return Finding("primary", cluster.name, CheckStatus.SKIPPED, "not all nodes answered, and of those none is it")
    remedy = "List the primary under nodes: who blocks a creation on a standby is seen there."
    return Finding("primary", cluster.name, CheckStatus.FAILED, "all nodes are standbys", remedy)


def judge_last_slot(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Name the standbys' slots that are lost with the primary's last one, where that is so (PostgreSQL 19)."""
    stakes = [
        f"{node.node}/{slot.slot_name}"
        for node in snapshot.nodes
        if has_dependent_slots(node)
        for slot in node.slots or ()
        if depends_on_primary(slot)
    ]
    kept = slots_keeping_decoding(snapshot.primary)
    if not stakes:
        return
    named = ", ".join(stakes)
    if snapshot.primary is None or snapshot.primary.slots is None:
        found = f"whether {named} rest on slots of the primary is not known: it did not show any"
        yield Finding("last slot", snapshot.cluster, CheckStatus.SKIPPED, found)
    elif kept is not None and len(kept) < FEW:
        found = (
            f"{named} will be lost when the primary has no logical slot any more; it has {', '.join(kept) or 'none'}"
        )
        remedy = "Set wal_level = logical on the primary and restart it; until then neither drop nor lose that slot."
        yield Finding("last slot", snapshot.cluster, CheckStatus.WARNING, found, remedy)
    elif kept is not None:
        found = f"{named} are kept by {len(kept)} of the primary's slots, as its wal_level is replica"
        yield Finding("last slot", snapshot.cluster, CheckStatus.OK, found)


def judge_identities(
    cluster: Cluster,
    servers: Mapping[Node, ServerOrError],
    acting: ServerOrError | None,
    ending: ServerOrError | None = None,
) -> Finding:
    """Say whether the nodes, and the server that the healer acts on, have one system identifier."""
    places: dict[str, str | None] = {
        node.name: server.system_identifier for node, server in servers.items() if isinstance(server, Server)
    }
    if cluster.system_identifier is not None:
        places["Patroni"] = cluster.system_identifier
    for place, server in (("healer.conninfo", acting), ("end_transactions.conninfo", ending)):
        if isinstance(server, Server):
            places[place] = server.system_identifier
    known = {place: identifier for place, identifier in places.items() if identifier is not None}
    shown = ", ".join(f"{place} {identifier}" for place, identifier in known.items())
    if len(set(known.values())) > 1:
        remedy = (
            "Put right which servers the configuration names for this cluster: these are not copies of one another."
        )
        return Finding("same cluster", cluster.name, CheckStatus.FAILED, f"system identifiers differ: {shown}", remedy)
    wanted = (
        len(servers) + (cluster.healer is not None) + (ending is not None) + (cluster.system_identifier is not None)
    )
    if len(known) < wanted:
        unreadable = [place for place, identifier in places.items() if identifier is None]
        why = f"may not be read on {', '.join(unreadable)}" if unreadable else "not all servers answered"
        return Finding("same cluster", cluster.name, CheckStatus.SKIPPED, f"unknown: the system identifier {why}")
    identifier = next(iter(known.values()))
    return Finding("same cluster", cluster.name, CheckStatus.OK, f"system identifier {identifier} everywhere")


def judge_capability(subject: str, target: HealerConfig, capability: Capability, acting: ServerOrError) -> Finding:
    """Say whether the healer could act."""
    if capability.reason is Unavailable.DISABLED:
        remedy = "Nothing is healed until that is changed, and the healer is told to reload."
        return Finding("capability", subject, CheckStatus.WARNING, f"switched off: {capability.remedy}", remedy)
    if target.fallback and capability.reason in REPLACEABLE:
        found = f"{capability.reason}; by its fallback emit_message it heals within some 25 s"
        return Finding("capability", subject, CheckStatus.WARNING, found, capability.remedy)
    if capability.reason is not None:
        return Finding("capability", subject, CheckStatus.FAILED, f"{capability.reason}", capability.remedy)
    facts = acting.facts if isinstance(acting, Server) else None
    found = f"can act as {facts.role} in database {facts.database}" if facts else "can act"
    if target.dry_run:
        remedy = "Nothing is healed until dry_run: false is in the configuration."
        return Finding("capability", subject, CheckStatus.WARNING, f"{found}, but dry_run: true", remedy)
    if facts is not None and facts.superuser:
        remedy = "Act as a role of its own: pg-slot-healer grants."
        return Finding("capability", subject, CheckStatus.WARNING, f"{found}, who is a superuser", remedy)
    return Finding("capability", subject, CheckStatus.OK, found)

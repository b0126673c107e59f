"""Each cluster's servers: they answer, run the exporter's queries, are set up for slots, and let the healer act."""

import asyncio
from collections.abc import Iterator, Mapping

from healer.doctor.checks.failover import judge_failover
from healer.doctor.checks.standbys import judge_unconfigured_standbys
from healer.doctor.result import CheckStatus, Finding
from healer.doctor.server_facts import Server, ServerFacts, ServerQueryError, fetch_server
from healer.episodes.deadlines import COLLECT_TIMEOUT
from healer.remedies.attempt import APPLICATION_NAME, Capability, Unavailable
from healer.remedies.force_snapshot.connection import has_fallback
from healer.remedies.registry import REMEDIES
from pgslot.config.model import Cluster, Config, HealerConfig, Node
from pgslot.diagnosis.wal_level import depends_on_primary, has_dependent_slots, slots_keeping_decoding
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot, QueryStatus
from pgslot.snapshot.queries import SUPPORTED

MIN_KEEPING_SLOTS = 2
"""With fewer slots on the primary, the next one that is dropped or lost is the last one."""

ServerOrError = Server | str
"""A server's answer, or why there is none."""


async def check_servers(config: Config) -> list[Finding]:
    """Check all clusters concurrently."""
    # A cluster has no nodes if Patroni did not answer, which `members` reports.
    findings = await asyncio.gather(*(_check_cluster(cluster) for cluster in config.clusters if cluster.nodes))
    return [finding for cluster_findings in findings for finding in cluster_findings]


async def _check_cluster(cluster: Cluster) -> list[Finding]:
    collector = ClusterCollector([cluster], APPLICATION_NAME)
    try:
        # First one, then the other, so that a query does not wait for these statements.
        servers = dict(
            zip(cluster.nodes, await asyncio.gather(*(_fetch_node(node) for node in cluster.nodes)), strict=True)
        )
        snapshot = await collector.collect_cluster(cluster.name, COLLECT_TIMEOUT)
    finally:
        await collector.close()
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
    acting_servers = dict(zip(targets, await asyncio.gather(*map(_fetch_acting_server, targets.values())), strict=True))
    findings.append(judge_identities(cluster, servers, *acting_servers.values()))
    for i, (name, target) in enumerate(targets.items()):
        # Every cluster with a healer section has the first remedy, which needs no name.
        subject = f"{cluster.name}, {name}" if i else cluster.name
        findings.append(judge_capability(subject, target, await REMEDIES[name].check(target), acting_servers[name]))
    return findings


async def _fetch_node(node: Node) -> ServerOrError:
    try:
        return await fetch_server(node.conninfo)
    except ServerQueryError as error:
        return str(error)


async def _fetch_acting_server(target: HealerConfig) -> ServerOrError:
    if not target.enabled:
        return "enabled: false"
    try:
        return await fetch_server(target.conninfo)
    except ServerQueryError as error:
        return str(error)


def judge_node(node: Node, server: ServerOrError, snapshot: NodeSnapshot | None) -> Iterator[Finding]:
    """Report on one node; `snapshot`: what the exporter's queries returned."""
    subject = f"{node.cluster}/{node.name}"
    if isinstance(server, str):
        advice = "Start it, or put host, port, password, pg_hba.conf or firewall right. Roles: pg-slot-healer grants."
        yield Finding("node", subject, CheckStatus.FAILED, server, advice)
        for name in ("probes", "wal_level"):
            yield Finding(name, subject, CheckStatus.SKIPPED, "the node did not answer")
        return
    facts = server.facts
    role = "standby" if facts.in_recovery else "primary"
    found = f"PostgreSQL {facts.version}, {role}, as {facts.role} in database {facts.database}"
    if facts.superuser:
        advice = "Observe as a role of its own: pg-slot-healer grants."
        yield Finding("node", subject, CheckStatus.WARNING, f"{found}, who is a superuser", advice)
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
        advice = "Set wal_level = logical, or keep a logical slot on the primary: until then none can be created here."
        return Finding("wal_level", subject, CheckStatus.WARNING, found, advice)
    advice = "Set wal_level = logical and restart the server: no logical slot can be created otherwise."
    return Finding("wal_level", subject, CheckStatus.FAILED, facts.wal_level, advice)


def _judge_probes(subject: str, server: Server, snapshot: NodeSnapshot | None) -> Finding:
    statuses = snapshot.statuses if snapshot is not None else {}
    failed = {name: status for name, status in statuses.items() if status is not QueryStatus.OK}
    if statuses and not failed:
        return Finding("probes", subject, CheckStatus.OK, f"{' '.join(statuses)}: ok")
    if QueryStatus.WRONG_CLUSTER in failed.values():
        found = "a server of another cluster than most nodes': what it shows is left out, see `same cluster`"
        return Finding("probes", subject, CheckStatus.SKIPPED, found)
    found = ", ".join(f"{name}: {status}" for name, status in failed.items())
    if QueryStatus.PERMISSION_DENIED in failed.values():
        quoted = '"' + server.facts.role.replace('"', '""') + '"'
        advice = f"As a superuser on the primary: GRANT pg_read_all_stats, pg_read_all_settings TO {quoted};"
    elif QueryStatus.UNSUPPORTED in failed.values():
        advice = f"Supported are PostgreSQL {SUPPORTED[0]} to {SUPPORTED[-1]}."
    elif QueryStatus.TIMEOUT in failed.values():
        advice = "The server is slow or its catalogs are locked: see pg_stat_activity."
    else:
        advice = "See the exporter's log, and the server's, for the error."
    return Finding("probes", subject, CheckStatus.FAILED, found, advice)


def _judge_standby(subject: str, server: Server) -> Finding:
    """Report what logical slots on this standby (16 and newer) need, or else lose to a vacuum on the primary."""
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
    advice = (
        "Only if logical slots are to live here: set both, or a vacuum on the primary removes catalog rows that a slot"
        " needs, at once or while the standby is away, and the slot is invalidated."
    )
    return Finding("standby", subject, CheckStatus.WARNING, ", ".join(lacking), advice)


def judge_primary(cluster: Cluster, servers: Mapping[Node, ServerOrError]) -> Finding:
    """Name the primary: only there is visible what blocks a creation on a standby."""
    answers = {node.name: server for node, server in servers.items() if isinstance(server, Server)}
    primaries = [name for name, server in answers.items() if not server.facts.in_recovery]
    if len(primaries) == 1:
        return Finding("primary", cluster.name, CheckStatus.OK, primaries[0])
    if primaries:
        advice = "A split brain, or nodes of several clusters under one name: stop one, or list it under its own."
        return Finding("primary", cluster.name, CheckStatus.FAILED, f"several: {', '.join(primaries)}", advice)
    if len(answers) < len(servers):
        return Finding("primary", cluster.name, CheckStatus.SKIPPED, "not all nodes answered, and of those none is it")
    advice = "List the primary under nodes: who blocks a creation on a standby is seen there."
    return Finding("primary", cluster.name, CheckStatus.FAILED, "all nodes are standbys", advice)


def judge_last_slot(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Name the standbys' slots that would be lost with the primary's last logical slot (PostgreSQL 19)."""
    dependent_slots = [
        f"{node.node}/{slot.slot_name}"
        for node in snapshot.nodes
        if has_dependent_slots(node)
        for slot in node.slots or ()
        if depends_on_primary(slot)
    ]
    kept = slots_keeping_decoding(snapshot.primary)
    if not dependent_slots:
        return
    named = ", ".join(dependent_slots)
    if snapshot.primary is None or snapshot.primary.slots is None:
        found = f"whether {named} rest on slots of the primary is not known: it did not show any"
        yield Finding("last slot", snapshot.cluster, CheckStatus.SKIPPED, found)
    elif kept is not None and len(kept) < MIN_KEEPING_SLOTS:
        found = (
            f"{named} will be lost when the primary has no logical slot any more; it has {', '.join(kept) or 'none'}"
        )
        advice = "Set wal_level = logical on the primary and restart it; until then neither drop nor lose that slot."
        yield Finding("last slot", snapshot.cluster, CheckStatus.WARNING, found, advice)
    elif kept is not None:
        found = f"{named} are kept by {len(kept)} of the primary's slots, as its wal_level is replica"
        yield Finding("last slot", snapshot.cluster, CheckStatus.OK, found)


def judge_identities(
    cluster: Cluster,
    servers: Mapping[Node, ServerOrError],
    acting_server: ServerOrError | None,
    terminating_server: ServerOrError | None = None,
) -> Finding:
    """Report whether the nodes and the servers that the healer acts on have the same system identifier."""
    identifiers: dict[str, str | None] = {
        node.name: server.system_identifier for node, server in servers.items() if isinstance(server, Server)
    }
    if cluster.system_identifier is not None:
        identifiers["Patroni"] = cluster.system_identifier
    for name, server in (("healer.conninfo", acting_server), ("end_transactions.conninfo", terminating_server)):
        if isinstance(server, Server):
            identifiers[name] = server.system_identifier
    readable = {name: identifier for name, identifier in identifiers.items() if identifier is not None}
    shown = ", ".join(f"{name} {identifier}" for name, identifier in readable.items())
    if len(set(readable.values())) > 1:
        advice = (
            "Put right which servers the configuration names for this cluster: these are not copies of one another."
        )
        return Finding("same cluster", cluster.name, CheckStatus.FAILED, f"system identifiers differ: {shown}", advice)
    expected = len(servers) + sum(
        source is not None for source in (cluster.healer, terminating_server, cluster.system_identifier)
    )
    if len(readable) < expected:
        unreadable = [name for name, identifier in identifiers.items() if identifier is None]
        why = f"may not be read on {', '.join(unreadable)}" if unreadable else "not all servers answered"
        return Finding("same cluster", cluster.name, CheckStatus.SKIPPED, f"unknown: the system identifier {why}")
    identifier = next(iter(readable.values()))
    return Finding("same cluster", cluster.name, CheckStatus.OK, f"system identifier {identifier} everywhere")


def judge_capability(
    subject: str, target: HealerConfig, capability: Capability, acting_server: ServerOrError
) -> Finding:
    """Report whether the healer could act."""
    if capability.reason is Unavailable.DISABLED:
        advice = "Nothing is healed until that is changed, and the healer is told to reload."
        return Finding("capability", subject, CheckStatus.WARNING, f"switched off: {capability.advice}", advice)
    if has_fallback(target, capability):
        found = f"{capability.reason}; by its fallback emit_message it heals within some 25 s"
        return Finding("capability", subject, CheckStatus.WARNING, found, capability.advice)
    if capability.reason is not None:
        return Finding("capability", subject, CheckStatus.FAILED, f"{capability.reason}", capability.advice)
    facts = acting_server.facts if isinstance(acting_server, Server) else None
    found = f"can act as {facts.role} in database {facts.database}" if facts else "can act"
    if target.dry_run:
        advice = "Nothing is healed until dry_run: false is in the configuration."
        return Finding("capability", subject, CheckStatus.WARNING, f"{found}, but dry_run: true", advice)
    if facts is not None and facts.superuser:
        advice = "Act as a role of its own: pg-slot-healer grants."
        return Finding("capability", subject, CheckStatus.WARNING, f"{found}, who is a superuser", advice)
    return Finding("capability", subject, CheckStatus.OK, found)

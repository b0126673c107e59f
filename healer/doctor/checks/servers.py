"""Each cluster's servers: they answer, run the exporter's queries, are set up for slots, and let the healer act."""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from healer.doctor.checks.catalog_rows import judge_catalog_rows
from healer.doctor.checks.failover import judge_failover
from healer.doctor.checks.leftovers import judge_leftovers, judge_timelines
from healer.doctor.checks.standbys import judge_unconfigured_standbys
from healer.doctor.checks.switchover import judge_switchover
from healer.doctor.checks.wal_volume import judge_wal_volume
from healer.doctor.result import CheckStatus, Finding
from healer.doctor.server_facts import NoAnswer, Server, ServerFacts, ServerOrError, configured_hosts, fetch_server
from healer.episodes.deadlines import COLLECT_TIMEOUT
from healer.remedies.attempt import APPLICATION_NAME, Capability, Unavailable
from healer.remedies.force_snapshot.connection import has_fallback
from healer.remedies.registry import REMEDIES
from pgslot.config.model import Cluster, Config, HealerConfig, Node
from pgslot.diagnosis.services import administrator, service_titles
from pgslot.diagnosis.wal_level import depends_on_primary, has_dependent_slots, slots_keeping_decoding
from pgslot.patroni.switchover_facts import fetch_switchover_facts
from pgslot.postgres.login_advice import login_advice
from pgslot.postgres.types import quote_identifier
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot, QueryStatus
from pgslot.snapshot.privileges import grant, grant_listing
from pgslot.snapshot.queries import SUPPORTED

MIN_KEEPING_SLOTS = 2
"""With fewer slots on the primary, the next one that is dropped or lost is the last one."""


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
            zip(
                cluster.nodes,
                await asyncio.gather(*(fetch_server(node.conninfo) for node in cluster.nodes)),
                strict=True,
            )
        )
        snapshot, switchover = await asyncio.gather(
            collector.collect_cluster(cluster.name, COLLECT_TIMEOUT),
            fetch_switchover_facts(cluster, APPLICATION_NAME, COLLECT_TIMEOUT),
        )
    finally:
        await collector.close()
    findings: list[Finding] = []
    for node, server in servers.items():
        findings += judge_node(node, server, snapshot.node(node.name))
    findings += judge_duplicates(cluster, servers)
    findings.append(judge_primary(cluster, servers))
    findings += judge_failover(snapshot)
    findings += judge_switchover(snapshot, switchover)
    findings += judge_catalog_rows(snapshot)
    findings += judge_leftovers(snapshot)
    findings += judge_timelines(snapshot, _timelines(servers))
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
        findings += judge_hosts(subject, target)
        findings.append(judge_capability(subject, target, await REMEDIES[name].check(target), acting_servers[name]))
    return findings


def _timelines(servers: Mapping[Node, ServerOrError]) -> dict[str, int | None]:
    return {node.name: server.timeline if isinstance(server, Server) else None for node, server in servers.items()}


async def _fetch_acting_server(target: HealerConfig) -> ServerOrError | None:
    """Return the server that the healer acts on; None: it is switched off there."""
    return await fetch_server(target.conninfo) if target.enabled else None


def judge_node(node: Node, server: ServerOrError, snapshot: NodeSnapshot | None) -> Iterator[Finding]:
    """Report on one node; `snapshot`: what the exporter's queries returned."""
    subject = f"{node.cluster}/{node.name}"
    if isinstance(server, NoAnswer):
        yield Finding("node", subject, CheckStatus.FAILED, f"{server.status}: {server.text}", _advice_without(server))
        refused = server.status is QueryStatus.LOGIN_FAILED
        for name in ("probes", "WAL directory", "wal_level"):
            found = "the node refused the login" if refused else "the node did not answer"
            yield Finding(name, subject, CheckStatus.SKIPPED, found)
        return
    facts = server.facts
    role = "standby" if facts.in_recovery else "primary"
    service = f"{titles}, " if snapshot is not None and (titles := service_titles(snapshot)) else ""
    found = f"PostgreSQL {facts.version}, {service}{role}, as {facts.role} in database {facts.database}"
    if facts.superuser:
        advice = "Observe with a dedicated role: pg-slot-healer grants."
        yield Finding("node", subject, CheckStatus.WARNING, f"{found}, a superuser", advice)
    else:
        yield Finding("node", subject, CheckStatus.OK, found)
    yield _judge_probes(subject, server, snapshot)
    yield _judge_wal_directory(subject, facts, snapshot)
    yield from judge_wal_volume(node, snapshot)
    yield _judge_wal_level(subject, facts)
    if facts.in_recovery and facts.version_num >= 160000:
        yield _judge_standby(subject, server)


def _advice_without(answer: NoAnswer) -> str:
    """Return what to do about a server that gave no facts."""
    if answer.status is QueryStatus.LOGIN_FAILED:
        return login_advice(answer.text)
    if answer.status is QueryStatus.ERROR:
        return "See the error: the server answered, or its conninfo cannot be used."
    return "Start the server if it is down; otherwise correct host and port in its conninfo, or the firewall."


def _judge_wal_level(subject: str, facts: ServerFacts) -> Finding:
    if facts.wal_level == "logical":
        return Finding("wal_level", subject, CheckStatus.OK, "logical")
    if facts.version_num >= 190000 and facts.wal_level == "replica":
        found = "replica, until the primary's first logical slot is created"
        if not facts.in_recovery:
            return Finding("wal_level", subject, CheckStatus.OK, found)
        advice = "Set wal_level = logical, or keep a logical slot on the primary: otherwise none can be created here."
        return Finding("wal_level", subject, CheckStatus.WARNING, found, advice)
    advice = "Set wal_level = logical and restart the server: no logical slot can be created otherwise."
    return Finding("wal_level", subject, CheckStatus.FAILED, facts.wal_level, advice)


def _refused(snapshot: NodeSnapshot | None) -> str:
    """Return what the server refuses to run, and the exporter does without; empty: nothing."""
    names = snapshot.refused if snapshot is not None else ()
    functions = ", ".join(f"{name}()" for name in names)
    return f"; the server refuses {functions}: what only that shows is unknown" if functions else ""


def _judge_probes(subject: str, server: Server, snapshot: NodeSnapshot | None) -> Finding:
    statuses = snapshot.statuses if snapshot is not None else {}
    failed = {name: status for name, status in statuses.items() if status is not QueryStatus.OK}
    if statuses and not failed and not server.facts.reads_all_settings:
        found = f"ok, but {server.facts.role} lacks pg_read_all_settings, which shows a standby's primary_conninfo"
        return Finding("probes", subject, CheckStatus.WARNING, found, _grant(server.facts, snapshot))
    if statuses and not failed:
        return Finding("probes", subject, CheckStatus.OK, f"{' '.join(statuses)}: ok{_refused(snapshot)}")
    if QueryStatus.WRONG_CLUSTER in failed.values():
        found = "a server of another cluster than most nodes: its data is ignored, see `same cluster`"
        return Finding("probes", subject, CheckStatus.SKIPPED, found)
    found = ", ".join(f"{name}: {status}" for name, status in failed.items())
    if QueryStatus.PERMISSION_DENIED in failed.values():
        advice = _grant(server.facts, snapshot)
    elif QueryStatus.UNSUPPORTED in failed.values():
        advice = f"Supported are PostgreSQL {SUPPORTED[0]} to {SUPPORTED[-1]}."
    elif QueryStatus.TIMEOUT in failed.values():
        advice = "The server is slow or its catalogs are locked: see pg_stat_activity."
    else:
        advice = "Read the error in the exporter's log and the server's log."
    return Finding("probes", subject, CheckStatus.FAILED, found, advice)


def _judge_wal_directory(subject: str, facts: ServerFacts, snapshot: NodeSnapshot | None) -> Finding:
    """Report whether the exporter can show how large the WAL directory is, and what keeps WAL in it."""
    if facts.lists_wal:
        found = f"{facts.role} may list it in database {facts.database}"
        return Finding("WAL directory", subject, CheckStatus.OK, found)
    found = f"{facts.role} may not list it in database {facts.database}: its size, and what keeps WAL, are not shown"
    monitor = f"GRANT pg_monitor TO {quote_identifier(facts.role)};"
    if snapshot is not None and service_titles(snapshot):
        # Nobody there owns these functions and could grant EXECUTE on them; services' dumps show pg_monitor.
        advice = f"As {administrator(snapshot)} on the primary: {monitor} Never run on the service itself: try."
    else:
        advice = (
            f"As a superuser on the primary, in database {facts.database}: {grant_listing(facts.role)}"
            f" -- or, where you may not grant that: {monitor}"
        )
    return Finding("WAL directory", subject, CheckStatus.WARNING, found, advice)


def _grant(facts: ServerFacts, snapshot: NodeSnapshot | None) -> str:
    return f"As {administrator(snapshot)} on the primary: {grant(facts.role)}"


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
        "If this standby is to have logical slots, set both: otherwise vacuum on the primary removes catalog rows that"
        " a slot needs, at once or while the standby is disconnected, and the slot is invalidated."
    )
    return Finding("standby", subject, CheckStatus.WARNING, ", ".join(lacking), advice)


def judge_duplicates(cluster: Cluster, servers: Mapping[Node, ServerOrError]) -> Iterator[Finding]:
    """Report each server that several nodes of the configuration lead to."""
    nodes: dict[tuple[str | None, float], list[str]] = {}
    addresses: dict[tuple[str | None, float], str] = {}
    for node, server in servers.items():
        if isinstance(server, Server):
            nodes.setdefault(server.process, []).append(node.name)
            addresses.setdefault(server.process, server.facts.address or "a Unix socket")
    for process, names in nodes.items():
        if len(names) > 1:
            started = datetime.fromtimestamp(process[1], UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            found = f"{' and '.join(names)} are the same server: {addresses[process]}, started {started}"
            advice = f"Correct host and port in the conninfo of {' or '.join(names)}: each node is its own server."
            yield Finding("same server", cluster.name, CheckStatus.FAILED, found, advice)


def judge_hosts(subject: str, target: HealerConfig) -> Iterator[Finding]:
    """Report a conninfo of several hosts that may connect the healer to a standby."""
    configured = configured_hosts(target.conninfo)
    if configured is None:
        # The capability says so.
        return
    hosts, session_attrs = configured
    if len(hosts) > 1 and session_attrs not in ("read-write", "primary"):
        found = f"the conninfo names {len(hosts)} hosts ({', '.join(hosts)}) with target_session_attrs={session_attrs}"
        advice = (
            "Add target_session_attrs=read-write to the healer's conninfo: without it, libpq takes the first"
            " host that answers: after a switchover, a standby."
        )
        yield Finding("hosts", subject, CheckStatus.WARNING, found, advice)


def judge_primary(cluster: Cluster, servers: Mapping[Node, ServerOrError]) -> Finding:
    """Name the primary: only there is visible what blocks a creation on a standby."""
    answers = {node.name: server for node, server in servers.items() if isinstance(server, Server)}
    primaries = {name: server for name, server in answers.items() if not server.facts.in_recovery}
    named = ", ".join(primaries)
    if len({server.process for server in primaries.values()}) == 1:
        return Finding("primary", cluster.name, CheckStatus.OK, named)
    if len({server.system_identifier for server in primaries.values()}) > 1:
        advice = "These are servers of several clusters: list each under the name of its own cluster."
        return Finding("primary", cluster.name, CheckStatus.FAILED, f"several: {named}", advice)
    if primaries:
        advice = (
            "A split brain: both may accept writes. Ask your failover manager which server is the leader, and let it"
            " fence the other server; stop neither by hand before you know which of them has the data that counts."
        )
        return Finding("primary", cluster.name, CheckStatus.FAILED, f"several: {named}", advice)
    if len(answers) < len(servers):
        found = "some nodes did not answer, and no other node is the primary"
        return Finding("primary", cluster.name, CheckStatus.SKIPPED, found)
    advice = "List the primary under nodes: only the primary shows who blocks a creation on a standby."
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
        found = f"unknown whether {named} depend on the primary's slots: the primary did not show its slots"
        yield Finding("last slot", snapshot.cluster, CheckStatus.SKIPPED, found)
    elif kept is not None and len(kept) < MIN_KEEPING_SLOTS:
        found = (
            f"{named} will be lost when the primary no longer has a logical slot; it has {', '.join(kept) or 'none'}"
        )
        advice = "Set wal_level = logical on the primary and restart it; until then neither drop nor lose that slot."
        yield Finding("last slot", snapshot.cluster, CheckStatus.WARNING, found, advice)
    elif kept is not None:
        found = f"{named} depend on {len(kept)} of the primary's slots, because its wal_level is replica"
        yield Finding("last slot", snapshot.cluster, CheckStatus.OK, found)


def judge_identities(
    cluster: Cluster,
    servers: Mapping[Node, ServerOrError],
    acting_server: ServerOrError | None,
    terminating_server: ServerOrError | None = None,
) -> Finding:
    """Report whether the nodes and the servers that the healer acts on have the same system identifier."""
    acting = {"healer.conninfo": acting_server, "end_transactions.conninfo": terminating_server}
    # A cluster that is switched off has no server that it acts on.
    sources = {node.name: server for node, server in servers.items()} | {
        name: server for name, server in acting.items() if server is not None
    }
    readable = {
        name: server.system_identifier
        for name, server in sources.items()
        if isinstance(server, Server) and server.system_identifier is not None
    }
    if cluster.system_identifier is not None:
        readable["Patroni"] = cluster.system_identifier
    shown = ", ".join(f"{name} {identifier}" for name, identifier in readable.items())
    if len(set(readable.values())) > 1:
        advice = (
            "Correct the servers that the configuration names for this cluster: these are not copies of one another."
        )
        return Finding("same cluster", cluster.name, CheckStatus.FAILED, f"system identifiers differ: {shown}", advice)
    missing = [
        f"{name}: {server.status if isinstance(server, NoAnswer) else 'the role may not read it'}"
        for name, server in sources.items()
        if name not in readable
    ]
    if missing or not readable:
        why = ", ".join(missing) or "no server is known yet"
        return Finding(
            "same cluster", cluster.name, CheckStatus.SKIPPED, f"could not compare system identifiers: {why}"
        )
    identifier = next(iter(readable.values()))
    return Finding("same cluster", cluster.name, CheckStatus.OK, f"system identifier {identifier} everywhere")


def judge_capability(
    subject: str, target: HealerConfig, capability: Capability, acting_server: ServerOrError | None
) -> Finding:
    """Report whether the healer could act."""
    if capability.reason is Unavailable.DISABLED:
        advice = (
            "With this file, nothing is healed; `in force` shows what the running healer does. To switch it on, change"
            " that and reload the healer."
        )
        found = f"switched off in this file: {capability.advice}"
        return Finding("capability", subject, CheckStatus.WARNING, found, advice)
    if has_fallback(target, capability):
        found = f"{capability.reason}; with its fallback emit_message it heals within about 25 s"
        return Finding("capability", subject, CheckStatus.WARNING, found, capability.advice)
    if capability.reason is not None:
        return Finding("capability", subject, CheckStatus.FAILED, f"{capability.reason}", capability.advice)
    facts = acting_server.facts if isinstance(acting_server, Server) else None
    found = f"can act as {facts.role} in database {facts.database}" if facts else "can act"
    if target.dry_run:
        advice = "Nothing is healed until you set dry_run: false."
        return Finding("capability", subject, CheckStatus.WARNING, f"{found}, but dry_run: true", advice)
    if facts is not None and facts.superuser:
        advice = "Act with a dedicated role: pg-slot-healer grants."
        return Finding("capability", subject, CheckStatus.WARNING, f"{found}, a superuser", advice)
    return Finding("capability", subject, CheckStatus.OK, found)

"""Would failover slots survive a failover? What each standby lacks for that, and which slots would not."""

from collections.abc import Iterator

from healer.doctor.result import CheckStatus, Finding
from pgslot.diagnosis.failover_readiness import (
    Readiness,
    failover_slots,
    missing_settings,
    readiness,
    sync_candidates,
)
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import Standby

_REMEDIES = {
    "sync_replication_slots": "sync_replication_slots = on",
    "hot_standby_feedback": "hot_standby_feedback = on",
    "primary_slot_name": "primary_slot_name to a physical slot of the primary",
    "primary_conninfo_dbname": "primary_conninfo with a dbname",
}


def judge_failover(cluster: ClusterSnapshot) -> Iterator[Finding]:
    """Say what holds for each standby that synchronises, or should; nothing where nobody asks for that."""
    primary = cluster.primary
    if primary is None:
        return
    wanted = failover_slots(primary)
    found = list(readiness(cluster))
    standbys = sync_candidates(cluster)
    if wanted and not standbys and all(node.up for node in cluster.nodes):
        lonely = f"{len(wanted)} failover slot(s), and no standby under nodes that could keep copies of them"
        remedy = "List a standby that streams from the primary, without delay: no metric and no alert tells of others."
        yield Finding("failover", f"{cluster.cluster}/{primary.node}", CheckStatus.WARNING, lonely, remedy)
    for node in standbys:
        # A standby before 17, or whose settings may not be read, has nothing to be judged by: `probes` says so.
        if node.standby is not None and (wanted or node.standby.sync_replication_slots):
            yield _judge(node, node.standby, primary, [one for one in found if one.node == node.node])


def _judge(node: NodeSnapshot, standby: Standby, primary: NodeSnapshot, slots: list[Readiness]) -> Finding:
    subject = f"{node.cluster}/{node.node}"
    missing = [setting for setting, lacks in missing_settings(standby).items() if lacks]
    remedies = [f"On {node.node} set {', '.join(_REMEDIES[setting] for setting in missing)}."] if missing else []
    upstream = standby.primary_slot_name
    if upstream and primary.slots is not None and primary.slot(upstream) is None:
        missing.append(f"the primary has no slot {upstream}")
        remedies.append("On the primary: SELECT pg_create_physical_replication_slot(...) of that name.")
    if missing == ["sync_replication_slots"] and slots and all(one.ready for one in slots):
        found = f"{len(slots)} failover slot(s) ready, kept in step only by whoever calls pg_sync_replication_slots()"
        return Finding("failover", subject, CheckStatus.WARNING, found, f"{remedies[0]} Until then they fall behind.")
    if missing:
        status = CheckStatus.FAILED if slots else CheckStatus.WARNING
        found = f"no copies of failover slots are kept: {', '.join(missing)}"
        return Finding("failover", subject, status, found, " ".join(remedies))
    unready = [f"{one.original.slot_name} {one.not_ready_reason}" for one in slots if one.not_ready_reason is not None]
    if unready:
        remedy = "After a failover to this standby they are gone: see the runbook of PgSlotNotFailoverReady."
        return Finding("failover", subject, CheckStatus.WARNING, f"not ready: {', '.join(unready)}", remedy)
    ready = f"{len(slots)} failover slot(s) ready" if slots else "synchronises; no slot has failover set"
    return Finding("failover", subject, CheckStatus.OK, ready)

"""Whether failover slots would survive a failover: what each standby lacks for that, and which slots would be lost."""

from collections.abc import Iterator

from healer.doctor.result import CheckStatus, Finding
from healer.status_page import duration
from pgslot.diagnosis.failover_readiness import (
    NotReadyReason,
    Readiness,
    failover_slots,
    missing_settings,
    readiness,
    sync_candidates,
)
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import Standby

_SETTINGS = {
    "sync_replication_slots": "sync_replication_slots = on",
    "hot_standby_feedback": "hot_standby_feedback = on",
    "primary_slot_name": "primary_slot_name to a physical slot of the primary",
    "primary_conninfo_dbname": "primary_conninfo with a dbname",
}


def judge_failover(cluster: ClusterSnapshot) -> Iterator[Finding]:
    """Report on each standby that synchronises slots, or should because the primary has failover slots."""
    primary = cluster.primary
    if primary is None:
        return
    slots = failover_slots(primary)
    copies = list(readiness(cluster))
    standbys = sync_candidates(cluster)
    if slots and not standbys and all(node.up for node in cluster.nodes):
        found = f"{len(slots)} failover slot(s), but no standby under nodes that could keep copies of them"
        advice = (
            "List a standby that streams from the primary without a delay: metrics and alerts cover only such standbys."
        )
        yield Finding("failover", f"{cluster.cluster}/{primary.node}", CheckStatus.WARNING, found, advice)
    for node in standbys:
        # A standby before 17, or one whose settings the role may not read, has no row: `probes` reports that.
        if node.standby is not None and (slots or node.standby.sync_replication_slots):
            yield _judge_standby(node, node.standby, primary, [copy for copy in copies if copy.node == node.node])


def _judge_standby(node: NodeSnapshot, standby: Standby, primary: NodeSnapshot, copies: list[Readiness]) -> Finding:
    subject = f"{node.cluster}/{node.node}"
    missing = [setting for setting, lacks in missing_settings(standby).items() if lacks]
    advice = [f"On {node.node} set {', '.join(_SETTINGS[setting] for setting in missing)}."] if missing else []
    upstream = standby.primary_slot_name
    if upstream and primary.slots is not None and primary.slot(upstream) is None:
        missing.append(f"the primary has no slot {upstream}")
        advice.append("On the primary: SELECT pg_create_physical_replication_slot(...) with that name.")
    if missing == ["sync_replication_slots"] and copies and all(copy.ready for copy in copies):
        found = (
            f"{len(copies)} failover slot(s) ready, synchronised only while something calls pg_sync_replication_slots()"
        )
        behind = "Until then the copies fall behind."
        return Finding("failover", subject, CheckStatus.WARNING, found, f"{advice[0]} {behind}")
    stale = [_unready(copy, node) for copy in copies if copy.not_ready_reason is NotReadyReason.STALE]
    if missing:
        status = CheckStatus.FAILED if copies else CheckStatus.WARNING
        kept = (
            "copies of failover slots are no longer synchronised" if stale else "no copies of failover slots are kept"
        )
        ages = f" ({'; '.join(stale)})" if stale else ""
        found = f"{kept}: {', '.join(missing)}{ages}"
        return Finding("failover", subject, status, found, " ".join(advice))
    unready = [_unready(copy, node) for copy in copies if copy.not_ready_reason is not None]
    if unready:
        lost = "After a failover to this standby these slots are gone: see the runbook of PgSlotNotFailoverReady."
        if stale:
            lost = "Fix the slot synchronization worker's error in the standby's log. Runbook: PgSlotNotFailoverReady."
        return Finding("failover", subject, CheckStatus.WARNING, f"not ready: {', '.join(unready)}", lost)
    ready = f"{len(copies)} failover slot(s) ready" if copies else "synchronises; no slot has failover set"
    return Finding("failover", subject, CheckStatus.OK, ready)


def _unready(copy: Readiness, node: NodeSnapshot) -> str:
    """Return a slot's name and why its copy is not ready; of a stale copy also how old it is."""
    text = f"{copy.original.slot_name} {copy.not_ready_reason}"
    if copy.not_ready_reason is NotReadyReason.STALE and copy.last_synchronized is not None and node.facts is not None:
        return f"{text}, last synchronised {duration(node.facts.server_time - copy.last_synchronized)} ago"
    return text

"""Would a slot survive a failover? The last row of both dashboards."""

from collections.abc import Iterable

from grafana_foundation_sdk.builders import table, timeseries

from dashboards.panels import Column, counts, lines, query, rows, runbooks
from dashboards.risk import TO_CLUSTER
from dashboards.terms import CLUSTER, FLEET, UNREADY, YES_NO, Scope, as_names, of_node, of_slot

QUESTION = "Would a slot survive a failover?"
ALERTS = ("PgSlotNotFailoverReady", "PgSlotNotPersisted")


def of_all() -> Iterable[timeseries.Panel | table.Panel]:
    ready = f"{of_slot('pgslot_failover_ready', FLEET)} == 1"
    yield (
        rows(
            501,
            "Failover slots that no standby is ready for",
            [
                Column("cluster", "Cluster", link=("Open the cluster", f"{TO_CLUSTER}&var-cluster=${{__value.raw}}")),
                Column("slot_name", "Slot"),
                Column("node", "Standby"),
                Column("reason", "Why not", names=as_names(UNREADY)),
            ],
            f"{of_slot('pgslot_failover_unready_reason', FLEET, by='reason')} == 1"
            f" unless on (cluster, slot_name) ({ready})",
        )
        .span(12)
        .height(8)
        .description(
            "Slots with failover set that would be gone after a failover, or of no use, whichever standby takes over; "
            "by standby. Healthy: no row, or for a minute after a slot was made. Bad: any that stays; its consumer "
            "needs a new copy of its data after the next failover. Next: not_persisted is the healer's, or its "
            "consumer's next read; for the others the runbook has the remedy. Clusters without such slots, and before "
            "PostgreSQL 17, do not show here."
        )
        .links(runbooks(*ALERTS))
    )
    yield by_reason(502, FLEET)


def of_one() -> Iterable[timeseries.Panel | table.Panel]:
    yield (
        rows(
            701,
            "Failover slots, on each standby that synchronises",
            [
                Column("slot_name", "Slot"),
                Column("node", "Standby"),
                Column("Value #A", "Ready", names=YES_NO, width=90),
                Column("reason", "Why not", names=as_names(UNREADY)),
                Column("Value #C", "Behind", "bytes"),
            ],
            of_slot("pgslot_failover_ready", CLUSTER),
            f"{of_slot('pgslot_failover_unready_reason', CLUSTER, by='reason')} == 1",
            of_slot("pgslot_failover_lag_bytes", CLUSTER),
        )
        .span(12)
        .description(
            "Whether the consumer of each failover slot could go on from this standby's copy after a promotion, and "
            "what it would get once more then (behind). Healthy: yes on one standby at least, little behind. Bad: no "
            "on all. Next: the runbook has the remedy for each reason. none: no slot has failover set."
        )
        .links(runbooks(*ALERTS))
    )
    yield (
        rows(
            702,
            "What standbys lack to synchronise slots",
            [
                Column("node", "Standby"),
                Column("Value #A", "Switched on", names=YES_NO, width=110),
                Column("setting", "Missing"),
            ],
            of_node("pgslot_slotsync_enabled", CLUSTER),
            f"{of_node('pgslot_slotsync_setting_missing', CLUSTER, by='setting')} == 1",
        )
        .span(12)
        .description(
            "Each standby from PostgreSQL 17 on: sync_replication_slots, and each setting that is missing for it, in a "
            "row of its own. Healthy: one that is switched on and lacks nothing, if there are failover slots. Bad: "
            "switched on and something missing: its worker does not start. Next: set it, and reload. A standby that "
            "is not to synchronise may lack all of it."
        )
        .links(runbooks("PgSlotNotFailoverReady"))
    )
    yield by_reason(703, CLUSTER)
    yield (
        lines(
            704,
            "How far copies are behind",
            "bytes",
            query(of_slot("pgslot_failover_lag_bytes", CLUSTER), "{{slot_name}} on {{node}}"),
        )
        .min(0)
        .description(
            "What the consumer of each failover slot has confirmed on the primary, and the standby's copy not yet. "
            "Healthy: it comes down again within half a minute, the longest pause of the worker that copies. Bad: it "
            "climbs: nobody synchronises any more, or the standby is behind. Next: the table above, and the "
            "standby's log."
        )
        .links(runbooks("PgSlotNotFailoverReady"))
    )


def by_reason(ident: int, scope: Scope) -> timeseries.Panel:
    reasons = of_slot("pgslot_failover_unready_reason", scope, by="reason")
    return (
        counts(
            lines(
                ident,
                "Copies that are not ready, by reason",
                "none",
                query(f"sum by (reason) ({reasons}) > 0", "{{reason}}"),
            ),
            UNREADY,
        )
        .description(
            "Copies of failover slots that would be of no use after a promotion. not_synced: there is none yet. "
            "not_persisted: it is temporary. name_clash: another slot has its name. invalidated: it is lost. sync_off, "
            "worker_down: nobody makes one. unknown: the standby does not tell. Healthy: nothing, or for a minute. "
            "Bad: any that stays. Next: the runbook has the remedy for each."
        )
        .links(runbooks(*ALERTS))
    )

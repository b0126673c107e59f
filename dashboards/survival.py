"""Would a slot survive a failover, and a slot on a standby a vacuum? The last row of both dashboards."""

from collections.abc import Iterable

from grafana_foundation_sdk.builders import table, timeseries

from dashboards.panels import Column, counts, lines, query, rows, runbooks
from dashboards.risk import TO_CLUSTER
from dashboards.terms import CLUSTER, FLEET, LEFTOVER, UNREADY, YES_NO, Scope, as_names, of_node, of_slot

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
            "Slots with failover set that would be gone or unusable after a failover, whichever standby takes "
            "over; one row per standby. Healthy: no row, or a row for a minute after a slot was created. Bad: "
            "any that stays; its consumer needs a new copy of its data after the next failover. Next: "
            "not_persisted needs the healer, or the consumer's next read; for the other reasons the runbook has "
            "the fix. Clusters without such slots, and those before PostgreSQL 17, do not show here."
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
                Column("Value #D", "Last sync", "s"),
            ],
            of_slot("pgslot_failover_ready", CLUSTER),
            f"{of_slot('pgslot_failover_unready_reason', CLUSTER, by='reason')} == 1",
            of_slot("pgslot_failover_lag_bytes", CLUSTER),
            f"time() - {of_slot('pgslot_failover_last_sync_timestamp_seconds', CLUSTER)}",
        )
        .span(12)
        .description(
            "Whether the consumer of each failover slot could continue from this standby's copy after a "
            "promotion, and how much it would receive again (behind). Healthy: yes on at least one standby, "
            "little behind, and synchronised within 90 s. Bad: no on all. Next: the runbook has the fix for each "
            "reason. none: no slot has failover set."
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
            "Each standby from PostgreSQL 17 on: sync_replication_slots, and a row for each setting that it "
            "lacks. Healthy: if there are failover slots, one standby that is switched on and lacks nothing. "
            "Bad: switched on, but something is missing: its worker does not start. Next: set it, and reload. A "
            "standby that is not meant to synchronise may lack all of it."
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
            "What the consumer of each failover slot has confirmed on the primary, but the standby's copy has "
            "not yet. Healthy: it falls again within half a minute, the longest pause of the worker that "
            "synchronises slots. Bad: it climbs: the synchronisation has stopped, or the standby is behind. "
            "Next: the table above, and the standby's log."
        )
        .links(runbooks("PgSlotNotFailoverReady"))
    )
    yield catalog_rows()
    yield leftovers()


def catalog_rows() -> timeseries.Panel:
    return (
        lines(
            705,
            "Catalog rows that slots on standbys need",
            "none",
            query(of_slot("pgslot_catalog_xmin_margin_xids", CLUSTER), "{{slot_name}} on {{node}}"),
        )
        .description(
            "How many transactions each logical slot on a standby is ahead of what the primary keeps of the catalogs. "
            "Healthy: 0 or more. Bad: below 0: the next vacuum of a catalog on the primary invalidates the slot. A "
            "temporary copy below 0 stays temporary until the primary's slot has advanced that far. Next: "
            "pgslot_feedback_broken_info says on which standby hot_standby_feedback ends, and why."
        )
        .links(runbooks("PgSlotCatalogUnprotected", "PgSlotNotPersisted"))
    )


def leftovers() -> table.Panel:
    reason = of_slot("pgslot_leftover_info", CLUSTER, by="reason")
    return (
        rows(
            706,
            "Slots that a switchover has left behind",
            [
                Column("slot_name", "Slot"),
                Column("node", "Standby"),
                Column("reason", "Why", names=as_names(LEFTOVER)),
                Column("Value #B", "Retains", "bytes"),
            ],
            reason,
            f"{of_slot('pgslot_retained_wal_bytes', CLUSTER)} and on (cluster, node, slot_name) {reason}",
        )
        .span(12)
        .height(8)
        .description(
            "Slots on standbys that no session uses and that no standby can have made, or whose original is gone. "
            "Healthy: no row, or for minutes after a switchover. Bad: any that stays: it retains WAL there, and "
            "name_clash stops the synchronisation of all failover slots. Next: pg-slot-healer doctor prints the "
            "statement that removes each."
        )
        .links(runbooks("PgSlotLeftover"))
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
            "Copies of failover slots that would be unusable after a promotion. not_synced: there is none yet. "
            "not_persisted: it is temporary. name_clash: another slot has its name. invalidated: it is lost. "
            "sync_off, worker_down: nothing creates a copy. stale: it is no longer synchronised. unknown: the "
            "standby does not show it. Healthy: none, or one for a minute. Bad: any that stays. Next: the "
            "runbook has the fix for each."
        )
        .links(runbooks(*ALERTS))
    )

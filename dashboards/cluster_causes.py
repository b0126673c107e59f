"""The drill-down's rows about WAL that is held back, and about the transactions that may be why."""

from collections.abc import Iterable

from grafana_foundation_sdk.builders import table, timeseries

from dashboards.panels import SESSION_COLUMNS, Column, counts, lines, marked, query, rows, runbooks
from dashboards.terms import (
    CAUSES,
    CLUSTER,
    IN_SIGHT,
    OLD_TRANSACTION,
    SLOT_KEY,
    SOON,
    as_names,
    of_node,
    of_slot,
    safe_wal_size,
)


def retained() -> Iterable[timeseries.Panel]:
    yield (
        lines(
            301,
            "Retained WAL",
            "bytes",
            query(of_slot("pgslot_retained_wal_bytes", CLUSTER), "{{slot_name}} on {{node}}"),
            query(f"{of_slot('pgslot_pinned_wal_bytes', CLUSTER)} > 0", "{{slot_name}} on {{node}}, of it pinned"),
        )
        .min(0)
        .description(
            "WAL that each slot retains; slots share it, so the highest line is what the disk holds. Pinned WAL "
            "is confirmed but still needed, because of an open transaction or because a running-xacts record is "
            "missing. The consumer has not confirmed the rest. Healthy: saw teeth that come down. Bad: a steady "
            "climb. Next: the cause, below; headroom shows how much time is left. A line ends when the slot is "
            "lost or dropped."
        )
        .links(runbooks("PgSlotInactive", "PgSlotStalled", "PgSlotPinnedByTransaction"))
    )
    yield (
        marked(
            lines(
                302,
                "Headroom until the slot is lost",
                "bytes",
                query(safe_wal_size(CLUSTER), "{{slot_name}} on {{node}}"),
            ),
            [(None, "red"), (0, "green")],
        )
        .description(
            "safe_wal_size: WAL that can still be written before the slot is lost. Healthy: flat. Bad: falling "
            "towards the dashed line at 0; below it, the next checkpoint invalidates the slot. A line ends when "
            "the slot is lost or the limit is removed. Next: the cause, below. Raising max_slot_wal_keep_size "
            "needs only a reload, and buys time if the disk has room."
        )
        .links(runbooks("PgSlotWalHeadroomLow", "PgSlotLossPredicted"))
    )
    yield (
        counts(
            lines(
                303,
                "Slots that retain WAL, by cause",
                "none",
                query(
                    f"sum by (cause) ({of_slot('slot:pgslot_retention_cause:max', CLUSTER, by='cause')}) > 0",
                    "{{cause}}",
                ),
            ),
            CAUSES,
        )
        .description(
            "Slots by the reason why they retain WAL. consumer: it is slow. inactive: no consumer is connected. "
            "decoding: PostgreSQL is busy with a large transaction. table_copy: a subscription copies a table. "
            "idle_publication: the consumer has nothing to confirm. standby: a standby in "
            "synchronized_standby_slots is behind. transaction: an open transaction pins the slot, see the row "
            "below. stalled: no transaction pins it, a record is missing. creation: the slot is being created. "
            "invalidated: it is lost. unknown: the exporter has watched it for less than two minutes. Healthy: "
            "none, or consumer for a while. Bad: any cause while the WAL above climbs. Next: repair the "
            "consumer, end the transaction below, or drop a slot that nobody will use again."
        )
        .links(runbooks("PgSlotInactive", "PgSlotStalled", "PgSlotPinnedByTransaction"))
    )
    written = f"max by (cluster, node) (rate(pgslot_wal_written_bytes_total{{{CLUSTER.node}}}[$__rate_interval]))"
    used = f"and on ({SLOT_KEY}) {of_slot('pgslot_active', CLUSTER)} == 1"
    decoded = (
        f"max by ({SLOT_KEY}) (rate(pgslot_decoding_total_bytes_total{{{CLUSTER.slot}}}[$__rate_interval])) {used}"
    )
    spilled = f"max by ({SLOT_KEY}) (rate(pgslot_decoding_spill_bytes_total{{{CLUSTER.slot}}}[$__rate_interval])) > 0"
    yield (
        lines(
            304,
            "WAL written, decoded and spilled",
            "Bps",
            query(written, "written on {{node}}"),
            query(decoded, "decoded for {{slot_name}} on {{node}}"),
            query(spilled, "spilled to disk for {{slot_name}} on {{node}}"),
        )
        .min(0)
        .description(
            "How fast WAL is written, and how fast each slot in use is sent its changes (fewer bytes than WAL: "
            "only the changes of its database and publication). Healthy: decoding follows writing. Bad: writing "
            "continues while a slot's decoding is 0; or much spilling, which means transactions larger than "
            "logical_decoding_work_mem. Next: the consumer's log."
        )
        .links(runbooks("PgSlotWalHeadroomLow", "PgSlotInactive"))
    )


def volume() -> Iterable[timeseries.Panel | table.Panel]:
    """The volume that holds the WAL: what is free, until when, and who keeps what of it."""
    free = of_node("node:pgslot_wal_volume_free_bytes:min", CLUSTER)
    yield (
        lines(
            305,
            "Volume with the WAL",
            "bytes",
            query(free, "free on {{node}}"),
            query(of_node("pgslot_wal_directory_bytes", CLUSTER), "WAL directory of {{node}}"),
            query(of_node("node:pgslot_retained_wal_bytes:max", CLUSTER), "retained by the furthest slot of {{node}}"),
        )
        .min(0)
        .description(
            "What is free on the volume, how large the WAL directory is, and what its furthest slot retains. Healthy: "
            "flat. Bad: free falls while the furthest slot's line climbs; at 0 PostgreSQL stops. No line for free: "
            "the configuration does not name the volume (wal_volume, wal_volume_labels). Next: who keeps the WAL, "
            "beside it."
        )
        .links(runbooks("PgSlotVolumeFullSoon", "PgSlotGrowsWithoutLimit", "PgSlotNoWalLimit"))
    )
    soon, hours = (of_node(f"node:pgslot_wal_volume_full:{range_}", CLUSTER) for range_ in ("seconds15m", "seconds6h"))
    yield (
        marked(
            lines(306, "Volume with the WAL is full in", "s", query(f"{soon} or {hours}", "{{node}}")).min(0),
            [(None, "red"), (SOON, "orange"), (IN_SIGHT, "green")],
        )
        .description(
            "When the volume is full at the rate of the last 15 minutes, or of the last hours. Healthy: no line, as "
            "nothing grows, or more than a day. Bad: below the dashed lines, 24 hours and 4 hours; a limit that comes "
            "first is not in it. Next: do what the alert names for the slot that retains most."
        )
        .links(runbooks("PgSlotVolumeFullSoon", "PgSlotVolumeFullPredicted"))
    )
    yield (
        rows(
            307,
            "Who keeps the WAL",
            [
                Column("node", "Node"),
                Column("holder", "Kept by"),
                Column("slot_name", "Slot"),
                Column("cause", "Because of", names=as_names(CAUSES)),
                Column("Value #A", "Frees", "bytes"),
                Column("Value #C", "Retains", "bytes"),
            ],
            f"{of_node('pgslot_wal_held_bytes', CLUSTER, by='holder, slot_name')} > 0",
            of_slot("slot:pgslot_retention_cause:max", CLUSTER, by="cause"),
            of_slot("pgslot_retained_wal_bytes", CLUSTER),
        )
        .height(6)
        .description(
            "What each holder keeps of the WAL directory; the values under 'frees' add up to its size. Healthy: "
            "checkpoint and rest. Bad: one slot or the archiver has most of it. Next: remove the cause; dropping the "
            "slot frees as much, and its consumer needs a new copy of the data. Empty: the exporter may not list the "
            "WAL directory (pg-slot-healer grants)."
        )
        .links(runbooks("PgSlotVolumeFullSoon", "PgSlotArchiverFailing"))
    )


def transactions() -> Iterable[timeseries.Panel | table.Panel]:
    yield (
        marked(
            lines(
                401,
                "Oldest transaction by kind",
                "s",
                query(
                    of_node("pgslot_oldest_transaction_age_seconds", CLUSTER, by="kind"),
                    "{{kind}} on {{node}}",
                ),
                span=24,
            ).min(0),
            [(None, "green"), (OLD_TRANSACTION, "orange")],
        )
        .height(7)
        .description(
            "Age of the oldest transaction. xid and prepared transactions block slot creation and pin slots, "
            "whatever their database; snapshot (read-only) transactions do neither. idle_in_transaction: a "
            "session that nobody works in. Healthy: minutes at most. Bad: xid or prepared beyond the dashed 15 "
            "minutes. Next: the table below names the transaction."
        )
        .links(runbooks("PgSlotPinnedByTransaction", "PgSlotPreparedTransactionForgotten"))
    )
    info = of_node("pgslot_oldest_transaction_info", CLUSTER, by="kind, pid, datname, usename, application_name, state")
    age = of_node("pgslot_oldest_transaction_age_seconds", CLUSTER, by="kind")
    yield (
        rows(
            402,
            "Oldest transaction of each kind",
            [
                Column("node", "Node"),
                Column("kind", "Kind"),
                *SESSION_COLUMNS,
                Column("Value", "Open for", "s", [(None, "text"), (OLD_TRANSACTION, "orange")]),
            ],
            f"{info} * on (cluster, node, kind) group_left () {age}",
        )
        .description(
            "Who holds the oldest transaction of each kind. Healthy: young transactions that change. Bad: the "
            "same row for many minutes. Next: ask its owner. pg_terminate_backend(pid) rolls its work back; "
            "ROLLBACK PREPARED ends a prepared transaction, whose gid is under application."
        )
        .links(runbooks("PgSlotPinnedByTransaction", "PgSlotPreparedTransactionForgotten"))
    )
    who = "backend_type, pid, datname, usename, application_name, state"
    yield (
        rows(
            403,
            "Transactions that may pin a slot",
            [
                Column("node", "Node"),
                Column("slot_name", "Slot"),
                Column("backend_type", "Backend", width=130),
                *SESSION_COLUMNS,
                Column("Value", "Open for", "s", [(None, "text"), (OLD_TRANSACTION, "orange")]),
            ],
            of_slot("pgslot_retention_candidate_age_seconds", CLUSTER, by=who),
        )
        .height(5)
        .description(
            "The transactions that may pin a slot, at most ten per slot; only one if the exporter knows which. "
            "Healthy: empty. Bad: a row that stays. Next: several rows for a slot are candidates, and nothing "
            "shows yet which of them pins it; ask their owners, because ending the wrong transaction releases "
            "nothing. The alert names the transaction once it is known."
        )
        .links(runbooks("PgSlotPinnedByTransaction"))
    )

"""The drill-down's rows about WAL that is held back, and about the transactions that may be why."""

from collections.abc import Iterable

from grafana_foundation_sdk.builders import table, timeseries

from dashboards.panels import Column, counts, lines, marked, query, rows, runbooks
from dashboards.terms import CAUSES, CLUSTER, OLD_TRANSACTION, SLOT_KEY, of_node, of_slot


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
            "WAL that each slot holds back; slots share it, so the highest line is what the disk holds. What is not "
            "pinned is the consumer's part: it has not acknowledged it. Pinned is acknowledged but still needed, for "
            "an open transaction, or for lack of a running-xacts record. Healthy: saw teeth that come down. Bad: a "
            "steady climb. Next: the cause, below; headroom says how long there is. A line that ends: the slot is lost "
            "or dropped."
        )
        .links(runbooks("PgSlotInactive", "PgSlotStalled", "PgSlotPinnedByTransaction"))
    )
    yield (
        marked(
            lines(
                302,
                "Headroom until the slot is lost",
                "bytes",
                query(of_slot("pgslot_safe_wal_size_bytes", CLUSTER), "{{slot_name}} on {{node}}"),
            ),
            [(None, "red"), (0, "green")],
        )
        .description(
            "safe_wal_size: WAL that can still be written before the slot is lost. Healthy: flat. Bad: falling towards "
            "the dashed line at 0, below which the next checkpoint removes its WAL. Lines that end: lost, or no limit "
            "is set. Next: the cause, below; raising max_slot_wal_keep_size needs a reload only, and buys time if the "
            "disk has it."
        )
        .links(runbooks("PgSlotWalHeadroomLow", "PgSlotLossPredicted"))
    )
    yield (
        counts(
            lines(
                303,
                "Slots that hold WAL, by cause",
                "none",
                query(f"sum by (cause) ({of_slot('pgslot_retention_cause', CLUSTER, by='cause')}) > 0", "{{cause}}"),
            ),
            CAUSES,
        )
        .description(
            "Slots by what holds their WAL. consumer: it is slow. inactive: it is away. idle_publication: it has "
            "nothing to confirm. standby: one that synchronized_standby_slots names is behind. transaction: an open "
            "one pins it, see the row below. stalled: nothing pins it, a record is missing. creation: it is being "
            "made. invalidated: it is lost. unknown: watched for less than two minutes. Healthy: nothing, or consumer "
            "for a while. Bad: any cause while the WAL above climbs. Next: wake the consumer, or end the transaction "
            "below, or drop a slot that nobody will use again."
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
            "How fast WAL is written, and how fast each slot in use is sent its changes (fewer bytes than WAL: only "
            "changes of its database and publication). Healthy: decoding follows writing. Bad: writing goes on while a "
            "slot's decoding is 0; much spilling: transactions larger than logical_decoding_work_mem. Next: the "
            "consumer's log."
        )
        .links(runbooks("PgSlotWalHeadroomLow", "PgSlotInactive"))
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
            "Age of the oldest transaction. xid and prepared block slot creation and pin slots, in whatever database "
            "they are; snapshot (read only) does neither; idle_in_transaction is one that nobody works in. Healthy: "
            "minutes at most. Bad: xid or prepared beyond the dashed 15 minutes. Next: the table below names it."
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
                Column("pid", "Pid", width=90),
                Column("datname", "Database"),
                Column("usename", "User"),
                Column("application_name", "Application"),
                Column("state", "State"),
                Column("Value", "Open for", "s", [(None, "text"), (OLD_TRANSACTION, "orange")]),
            ],
            f"{info} * on (cluster, node, kind) group_left () {age}",
        )
        .description(
            "Who holds the oldest transaction of each kind. Healthy: young ones that change. Bad: the same row for "
            "many minutes. Next: ask its owner; pg_terminate_backend(pid) rolls its work back, ROLLBACK PREPARED ends "
            "a prepared one, whose gid is under application."
        )
        .links(runbooks("PgSlotPinnedByTransaction", "PgSlotPreparedTransactionForgotten"))
    )

"""The fleet overview: all clusters on one page, from which a row leads to the cluster."""

from grafana_foundation_sdk.builders import dashboard, table

from dashboards import healing, risk, survival
from dashboards.fleet_healing import healed
from dashboards.frame import Panels, board, several, with_rows
from dashboards.panels import BAD_FROM_ONE, Column, counts, lines, marked, query, rows, runbooks, single
from dashboards.terms import (
    CAUSES,
    CREATION_BLOCKED,
    CREATION_STUCK,
    FAR,
    FLEET,
    HEALER,
    IN_SIGHT,
    LITTLE_HEADROOM,
    OLD_TRANSACTION,
    REASONS,
    SLOT_KEY,
    SOON,
    WAL_STATUS,
    as_names,
    firing,
    headroom,
    of_cluster,
    of_node,
    of_slot,
    time_left,
)


def stuck() -> Panels:
    yield from risk.numbers(FLEET)
    can_not = of_cluster("pgslot_heal_capability_unavailable", FLEET, 'reason!="disabled"')
    yield (
        single(
            107,
            "Cannot be healed",
            "none",
            f"sum({can_not})",
            BAD_FROM_ONE,
            none="no healer",
        )
        .description(
            "Clusters where the healer would be unable to act; this shows before the healer is needed. Healthy: "
            "0. Bad: any; the table of the healer, below, shows the reason. Clusters that somebody has switched "
            "off do not count. Next: the runbook has the fix for each reason. No healer: Prometheus scrapes no "
            "healer."
        )
        .links(runbooks("PgSlotHealUnavailable", "PgSlotHealerDown"))
    )
    yield healing.running(108, FLEET)
    yield slots_in_trouble()
    yield risk.alerts(110, FLEET)


def slots_in_trouble() -> table.Panel:
    """Only what somebody has to look at: in a large fleet a healthy slot must not hide a dying one."""
    waits = f"{of_slot('pgslot_creation_wait_seconds', FLEET)} > {CREATION_STUCK}"
    little = f"{headroom(FLEET)} < {LITTLE_HEADROOM}"
    soon = f"{time_left(FLEET)} < {IN_SIGHT}"
    gone = 'wal_status=~"unreserved|lost"'
    on = f"on ({SLOT_KEY})"
    return (
        rows(
            109,
            "Slots that need attention",
            [
                Column(
                    "cluster", "Cluster", link=("Open the cluster", f"{risk.TO_CLUSTER}&var-cluster=${{__value.raw}}")
                ),
                Column("node", "Node"),
                Column(
                    "slot_name",
                    "Slot",
                    link=(
                        "Open the slot",
                        f"{risk.TO_CLUSTER}&var-cluster=${{__data.fields.Cluster}}&var-node=${{__data.fields.Node}}"
                        "&var-slot=${__value.raw}",
                    ),
                ),
                Column("Value #A", "In creation for", "s", [(None, "orange"), (CREATION_BLOCKED, "red")]),
                Column("reason", "Waits for", names=as_names(REASONS)),
                Column("wal_status", "WAL status", names=WAL_STATUS),
                Column("Value #D", "Headroom", "percentunit", [(None, "red"), (0.1, "orange")]),
                Column("Value #E", "Lost in", "s", [(None, "red"), (SOON, "orange")]),
                Column("cause", "WAL held by", names=as_names(CAUSES)),
            ],
            waits,
            f"{of_slot('pgslot_creation_wait_reason', FLEET, by='reason')} == 1 and {on} ({waits})",
            f"{of_slot('pgslot_wal_status', FLEET, gone, by='wal_status')} == 1",
            little,
            soon,
            f"{of_slot('slot:pgslot_retention_cause:max', FLEET, by='cause')} and {on}"
            f" ({of_slot('pgslot_wal_status', FLEET, gone)} == 1 or {little} or {soon})",
        )
        .height(7)
        .description(
            "Each slot that has been in creation for more than 30 s, has less than a quarter of its headroom "
            "left, would be lost within a day at the present rate, or is lost. An empty cell means that this "
            "does not concern the slot. Healthy: no row. Bad: any; red first. Next: click on the slot to see "
            "why."
        )
        .links(runbooks("PgSlotCreationStuck", "PgSlotWalHeadroomLow", "PgSlotLost"))
    )


def which() -> Panels:
    down = f"sum by (cluster) (1 - {of_node('pgslot_up', FLEET)})"
    lost = of_slot("slot:pgslot_lost:max", FLEET)
    able = of_cluster("pgslot_heal_capability_unavailable", FLEET)
    why_not = of_cluster("pgslot_heal_capability_unavailable", FLEET, by="reason")
    yield (
        rows(
            201,
            "Clusters",
            [
                Column(
                    "cluster", "Cluster", link=("Open the cluster", f"{risk.TO_CLUSTER}&var-cluster=${{__value.raw}}")
                ),
                Column("Value #A", "Not seen", "none", BAD_FROM_ONE),
                Column("Value #B", "Slots", "none"),
                Column("Value #C", "Waiting", "none", [(None, "green"), (1, "orange")]),
                Column(
                    "Value #D",
                    "Longest wait",
                    "s",
                    [(None, "green"), (CREATION_STUCK, "orange"), (CREATION_BLOCKED, "red")],
                ),
                Column("Value #E", "Lost", "none", BAD_FROM_ONE),
                Column(
                    "Value #F",
                    "Headroom",
                    "percentunit",
                    [(None, "red"), (LITTLE_HEADROOM, "orange"), (0.5, "green")],
                ),
                Column("Value #G", "Lost in", "s", [(None, "red"), (SOON, "orange"), (IN_SIGHT, "green")]),
                Column("Value #H", "Retained WAL", "bytes"),
                Column("Value #I", "Transaction", "s", [(None, "green"), (OLD_TRANSACTION, "orange")]),
                Column("Value #J", "Alerts", "none", BAD_FROM_ONE),
                Column("reason", "Healer", names=HEALER, width=160),
            ],
            down,
            f"sum by (cluster) ({of_node('pgslot_replication_slots', FLEET)})",
            f"sum by (cluster) ({of_node('pgslot_creations_waiting', FLEET)})",
            of_cluster("pgslot_creation_wait_seconds", FLEET),
            f"sum by (cluster) ({lost})",
            f"min by (cluster) ({headroom(FLEET)})",
            f"min by (cluster) ({time_left(FLEET)}) < {FAR}",
            of_cluster("cluster:pgslot_retained_wal_bytes:max", FLEET),
            of_cluster("pgslot_oldest_transaction_age_seconds", FLEET, 'kind=~"xid|prepared"'),
            f"count by (cluster) (ALERTS{{{firing(FLEET)}}})",
            f'{why_not} == 1 or on (cluster) label_replace({able}, "reason", "ready", "", "")',
        )
        .height(7)
        .description(
            "One row per cluster, with its worst value in each column; the name links to the cluster. Healthy: "
            "green. An empty headroom means that no limit is set; an empty healer means that none is set up. "
            "Bad: red, or a healer that shows anything but 'ready'. Next: open the cluster with the most red."
        )
        .links(runbooks("PgSlotTargetDown", "PgSlotHealUnavailable"))
    )


def why() -> Panels:
    yield (
        marked(
            lines(
                301,
                "Longest creation wait, by cluster",
                "s",
                query(of_cluster("pgslot_creation_wait_seconds", FLEET), "{{cluster}}"),
            ).min(0),
            [(None, "green"), (CREATION_STUCK, "orange"), (CREATION_BLOCKED, "red")],
        )
        .description(
            "How long the oldest creation of each cluster has waited. Healthy: no line. Bad: a line that climbs "
            "past the dashed lines (the alerts, 30 s and 60 s). A line drops when the creation ends. Next: what "
            "it waits for, in the panel beside this one."
        )
        .links(runbooks("PgSlotCreationStuck", "PgSlotCreationBlocked"))
    )
    yield (
        counts(
            lines(
                302,
                "Waiting creations, by what they wait for",
                "none",
                query(
                    f"sum by (reason) ({of_slot('pgslot_creation_wait_reason', FLEET, by='reason')}) > 0", "{{reason}}"
                ),
            ),
            REASONS,
        )
        .description(
            "Waiting creations of all clusters, by reason. Healthy: none. Bad: any reason that stays; many at "
            "once have a common cause, such as a network or a deployment. Next: the healer ends running_xacts; "
            "somebody must end a transaction; the other reasons are about replay on the standby. Open the "
            "cluster."
        )
        .links(runbooks("PgSlotCreationStuck", "PgSlotCreationBlocked"))
    )
    yield (
        marked(
            lines(
                303,
                "Least headroom, by cluster",
                "percentunit",
                query(f"min by (cluster) ({headroom(FLEET)})", "{{cluster}}"),
            ).max(1),
            [(None, "red"), (0, "orange"), (LITTLE_HEADROOM, "green")],
        )
        .description(
            "What is left of max_slot_wal_keep_size, for the worst slot of each cluster. Healthy: high and "
            "flat. Bad: falling to the dashed lines (a quarter, and 0, where the next checkpoint invalidates "
            "the slot). A line ends when the slot is lost or the limit is removed. Next: why the slot retains "
            "WAL, in the panel beside this one."
        )
        .links(runbooks("PgSlotWalHeadroomLow", "PgSlotLossPredicted"))
    )
    yield (
        counts(
            lines(
                304,
                "Slots that retain WAL, by cause",
                "none",
                query(
                    f"sum by (cause) ({of_cluster('cluster:pgslot_retention_cause:count', FLEET, by='cause')}) > 0",
                    "{{cause}}",
                ),
            ),
            CAUSES,
        )
        .description(
            "Slots of all clusters by the reason why they retain WAL. consumer: slow. inactive: no consumer is "
            "connected. decoding: a large transaction is being decoded. table_copy: a table is being copied. "
            "idle_publication: the consumer has nothing to confirm. standby: a standby in "
            "synchronized_standby_slots is behind. transaction: an open transaction pins it. stalled: a record "
            "is missing. creation: it is being created. invalidated: lost. unknown: not watched for long. "
            "Healthy: few, or consumer for a while. Bad: any that stays while headroom falls. Next: open the "
            "cluster."
        )
        .links(runbooks("PgSlotInactive", "PgSlotStalled", "PgSlotPinnedByTransaction"))
    )
    yield (
        lines(
            305,
            "Most WAL retained by a slot, by cluster",
            "bytes",
            query(of_cluster("cluster:pgslot_retained_wal_bytes:max", FLEET), "{{cluster}}"),
        )
        .min(0)
        .description(
            "WAL that the worst slot of each cluster retains on its server's disk. Healthy: saw teeth that come "
            "down. Bad: a steady climb, especially without a limit: then only the disk ends it. Next: open the "
            "cluster."
        )
        .links(runbooks("PgSlotWalHeadroomLow", "PgSlotInactive"))
    )
    yield (
        marked(
            lines(
                306,
                "Oldest transaction that can block slots, by cluster",
                "s",
                query(
                    of_cluster("pgslot_oldest_transaction_age_seconds", FLEET, 'kind=~"xid|prepared"'), "{{cluster}}"
                ),
            ).min(0),
            [(None, "green"), (OLD_TRANSACTION, "orange")],
        )
        .description(
            "Age of the oldest open or prepared transaction that has written. It blocks the creation of slots "
            "and pins existing slots, whatever its database. Healthy: minutes at most. Bad: beyond the dashed "
            "15 minutes. Next: open the cluster, which names the transaction."
        )
        .links(runbooks("PgSlotPinnedByTransaction", "PgSlotPreparedTransactionForgotten"))
    )


def build() -> dashboard.Dashboard:
    made = board(
        "pgslot-fleet",
        "PostgreSQL replication slots: all clusters",
        "Is any slot stuck or about to be lost, in which cluster, why, and what did the healer do.",
        scope=FLEET,
        choices=[several("cluster", "Cluster", "label_values(pgslot_up, cluster)")],
        other=("One cluster", "pgslot-cluster"),
    )
    return with_rows(
        made,
        (100, "Is anything stuck or about to be lost?", stuck()),
        (200, "Which cluster?", which()),
        (300, "Why?", why()),
        (400, "What did the healer do, and could it?", healed()),
        (500, survival.QUESTION, survival.of_all()),
    )

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
            "Clusters where the healer could not help if it had to, known before it is needed. Healthy: 0. Bad: any; "
            "the table of the healer, below, names the reason. One that somebody has switched off does not count. "
            "Next: the runbook has the remedy for each reason. No healer: none is scraped."
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
            "Slots that need somebody",
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
            f"{of_slot('pgslot_retention_cause', FLEET, by='cause')} == 1 and {on}"
            f" ({of_slot('pgslot_wal_status', FLEET, gone)} == 1 or {little} or {soon})",
        )
        .height(7)
        .description(
            "Each slot that is stuck in creation for more than 30 s, has less than a quarter of its headroom left, "
            "would be lost within a day at its present pace, or is lost. An empty cell means that this is not its "
            "trouble. Healthy: no row. Bad: any; red first. Next: click on the slot to see why."
        )
        .links(runbooks("PgSlotCreationStuck", "PgSlotWalHeadroomLow", "PgSlotLost"))
    )


def which() -> Panels:
    down = f"sum by (cluster) (1 - {of_node('pgslot_up', FLEET)})"
    lost = of_slot("pgslot_wal_status", FLEET, 'wal_status="lost"')
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
                Column("Value #A", "Servers not seen", "none", BAD_FROM_ONE),
                Column("Value #B", "Slots", "none"),
                Column("Value #C", "Creations waiting", "none", [(None, "green"), (1, "orange")]),
                Column(
                    "Value #D",
                    "Longest wait",
                    "s",
                    [(None, "green"), (CREATION_STUCK, "orange"), (CREATION_BLOCKED, "red")],
                ),
                Column("Value #E", "Lost", "none", BAD_FROM_ONE),
                Column(
                    "Value #F",
                    "Least headroom",
                    "percentunit",
                    [(None, "red"), (LITTLE_HEADROOM, "orange"), (0.5, "green")],
                ),
                Column("Value #G", "Soonest loss in", "s", [(None, "red"), (SOON, "orange"), (IN_SIGHT, "green")]),
                Column("Value #H", "Most retained WAL", "bytes"),
                Column("Value #I", "Oldest transaction", "s", [(None, "green"), (OLD_TRANSACTION, "orange")]),
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
            of_cluster("pgslot_retained_wal_bytes", FLEET),
            of_cluster("pgslot_oldest_transaction_age_seconds", FLEET, 'kind=~"xid|prepared"'),
            f"count by (cluster) (ALERTS{{{firing(FLEET)}}})",
            f'{why_not} == 1 or on (cluster) label_replace({able}, "reason", "ready", "", "")',
        )
        .height(7)
        .description(
            "One row a cluster, its worst value in each column; the name leads to the cluster. Healthy: green. An "
            "empty headroom means that no limit is set, an empty healer that none is set up. Bad: red, and a healer "
            "that says anything but 'ready'. Next: open the cluster with the most red."
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
            "How long the oldest creation of each cluster has waited. Healthy: no line at all. Bad: a line that climbs "
            "past the dashed ones (the alerts, 30 s and 60 s). A drop is its end. Next: what it waits for, beside "
            "this."
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
            "Waiting creations of all clusters, by reason. Healthy: nothing. Bad: any reason that stays; many at once "
            "point to one common cause, as a network or a deployment. Next: running_xacts is the healer's to end; "
            "transaction needs somebody to end it; the others are about replay on the standby. Open the cluster."
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
            "What is left of max_slot_wal_keep_size, for the worst slot of each cluster. Healthy: high and flat. Bad: "
            "falling to the dashed lines (a quarter, and 0 where the slot is lost at the next checkpoint). A line that "
            "ends: lost, or the limit was taken away. Next: what holds the WAL, beside this."
        )
        .links(runbooks("PgSlotWalHeadroomLow", "PgSlotLossPredicted"))
    )
    yield (
        counts(
            lines(
                304,
                "Slots that hold WAL, by cause",
                "none",
                query(
                    f"sum by (cause) ({of_slot('pgslot_retention_cause', FLEET, by='cause')}) > 0",
                    "{{cause}}",
                ),
            ),
            CAUSES,
        )
        .description(
            "Slots of all clusters by what makes them hold back WAL. consumer: slow; inactive: away; idle_publication: "
            "nothing to confirm; standby: a listed one is behind; transaction: an open one pins it; stalled: a record "
            "is missing; creation: in the making; invalidated: lost; unknown: not watched for long. Healthy: few, "
            "or consumer for a while. Bad: any that stays while headroom falls. Next: open the cluster."
        )
        .links(runbooks("PgSlotInactive", "PgSlotStalled", "PgSlotPinnedByTransaction"))
    )
    yield (
        lines(
            305,
            "Most WAL held back by a slot, by cluster",
            "bytes",
            query(of_cluster("pgslot_retained_wal_bytes", FLEET), "{{cluster}}"),
        )
        .min(0)
        .description(
            "WAL that the worst slot of each cluster keeps on its server's disk. Healthy: saw teeth that come down. "
            "Bad: a steady climb, above all where no limit is set: then the disk is what ends it. Next: open the "
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
            "Age of the oldest open or prepared transaction that has written. It blocks the creation of slots and pins "
            "existing ones, in whatever database it is. Healthy: minutes at most. Bad: beyond the dashed 15 minutes. "
            "Next: open the cluster, which names it."
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

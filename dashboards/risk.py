"""Is anything stuck or about to be lost? The panels at the top of both dashboards."""

from collections.abc import Iterable

from grafana_foundation_sdk.builders import common, stat, table

from dashboards.panels import BAD_FROM_ONE, Column, named, rows, runbooks, single
from dashboards.terms import (
    CREATION_BLOCKED,
    CREATION_STUCK,
    FAR,
    IN_SIGHT,
    LITTLE_HEADROOM,
    SLOT_KEY,
    SOON,
    Scope,
    firing,
    headroom,
    of_node,
    of_slot,
    seen,
    time_left,
)

ALERT_KEY = "alertname, severity, cluster, node, slot_name, heal"
TO_CLUSTER = "/d/pgslot-cluster?var-datasource=${datasource}&${__url_time_range}"


def numbers(scope: Scope) -> Iterable[stat.Panel]:
    """Six numbers, an eighth of the width each."""
    lost = of_slot("pgslot_wal_status", scope, 'wal_status="lost"')
    yield (
        single(
            101,
            "Creations stuck",
            "none",
            f"count({of_slot('pgslot_creation_wait_seconds', scope)} > {CREATION_STUCK}) or {seen(scope)}",
            BAD_FROM_ONE,
            none="no data",
        )
        .description(
            "Logical slots that have been in creation for more than 30 s. Healthy: 0; a creation takes milliseconds. "
            "Bad: any; its consumer cannot start, and WAL piles up behind the half-made slot. Next: the tables below "
            "say which slot it is and what it waits for. No data: the exporter is not scraped."
        )
        .links(runbooks("PgSlotCreationStuck", "PgSlotCreationBlocked"))
    )
    yield (
        single(
            102,
            "Longest creation wait",
            "s",
            f"max({of_slot('pgslot_creation_wait_seconds', scope)}) or {seen(scope)}",
            [(None, "green"), (CREATION_STUCK, "orange"), (CREATION_BLOCKED, "red")],
            none="no data",
        )
        .decimals(0)
        .description(
            "How long the oldest creation has waited; 0 when none waits. Healthy: below a second. Bad: from 30 s on, "
            "where PgSlotCreationStuck fires, or 60 s with a transaction in the way (PgSlotCreationBlocked). Next: "
            "what it waits for, below."
        )
        .links(runbooks("PgSlotCreationStuck", "PgSlotCreationBlocked"))
    )
    yield (
        single(
            103,
            "Slots lost",
            "none",
            f"sum({lost}) or {seen(scope)}",
            BAD_FROM_ONE,
            none="no data",
        )
        .description(
            "Slots that PostgreSQL has invalidated: what they needed is gone. Healthy: 0. Bad: any; the consumer needs "
            "a new slot and a new copy of its data. Next: tell the consumer's owner, then drop the slot; the runbook "
            "has the order."
        )
        .links(runbooks("PgSlotLost"))
    )
    yield (
        single(
            104,
            "Soonest loss in",
            "s",
            f"clamp_max(min({time_left(scope)}), {FAR}) or {FAR} + {seen(scope)}",
            [(None, "red"), (SOON, "orange"), (IN_SIGHT, "green")],
            none="no data",
        )
        .mappings(named({str(FAR): (">1w", "green")}))
        .description(
            "Time until the first slot is lost if its headroom goes on shrinking as in the last 15 minutes. Healthy: "
            "more than a week, which is also shown when nothing shrinks or no limit is set (then the disk is the "
            "limit: see retained WAL). Bad: less than 4 hours. Next: the slot and what holds its WAL, below; raising "
            "max_slot_wal_keep_size takes a reload and buys time if the disk has room."
        )
        .links(runbooks("PgSlotLossPredicted"))
    )
    yield (
        single(
            105,
            "Least headroom",
            "percentunit",
            f"min({headroom(scope)})",
            [(None, "red"), (LITTLE_HEADROOM, "orange"), (0.5, "green")],
            none="no limit",
        )
        .decimals(0)
        .description(
            "What is left of max_slot_wal_keep_size for the slot that has used most of it. Healthy: above 50 %. Bad: "
            "below 25 %; from 0 on the next checkpoint takes the slot. No limit: max_slot_wal_keep_size is -1, every "
            "slot is lost already, or the exporter is not scraped. Next: what holds the WAL, below."
        )
        .links(runbooks("PgSlotWalHeadroomLow"))
    )
    yield (
        single(
            106,
            "Servers not seen",
            "none",
            f"sum(1 - {of_node('pgslot_up', scope)})",
            BAD_FROM_ONE,
            none="no data",
        )
        .description(
            "Servers that the exporter cannot reach: of their slots nothing is known, and nothing here shows it. "
            "Healthy: 0. Bad: any. No data: the exporter itself is not scraped. Next: the exporter's log names the "
            "error, pgslot_probe_status its kind."
        )
        .links(runbooks("PgSlotTargetDown", "PgSlotExporterDown"))
    )


def alerts(ident: int, scope: Scope) -> table.Panel:
    """Alerts that fire, each with its runbook."""
    lasts = f"time() - max by ({ALERT_KEY}) (ALERTS_FOR_STATE{{{scope.alert}}})"
    return (
        rows(
            ident,
            "Alerts that fire",
            [
                Column("alertname", "Alert", link=("Runbook", "${runbooks}/${__value.raw}"), width=280),
                Column(
                    "severity",
                    "Severity",
                    names={
                        "critical": ("critical", "red"),
                        "warning": ("warning", "orange"),
                    },
                    width=100,
                ),
                Column("cluster", "Cluster", link=("Open the cluster", f"{TO_CLUSTER}&var-cluster=${{__value.raw}}")),
                Column("node", "Node"),
                Column("slot_name", "Slot"),
                Column("heal", "Healer is told", names={"log_standby_snapshot": ("yes", "blue")}, width=140),
                Column("Value", "For", unit="s", width=120),
            ],
            f"({lasts}) and on (alertname, {SLOT_KEY}) ALERTS{{{firing(scope)}}}",
        )
        .sort_by([common.TableSortByFieldState().display_name("Severity").desc(False)])  # critical, then warning
        .height(6)
        .description(
            "Alerts of this project that fire now, in Prometheus; the name leads to its runbook. Healthy: none. Bad: "
            "critical ones, and warnings that nobody looks at. Next: open the runbook of the topmost. Silences and "
            "routes are Alertmanager's and do not show here."
        )
        .links(runbooks("PgSlotExporterDown"))
    )

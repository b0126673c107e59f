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
    lost = of_slot("slot:pgslot_lost:max", scope)
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
            "Logical slots that have been in creation for more than 30 s. Healthy: 0; a creation takes "
            "milliseconds. Bad: any; its consumer cannot start, and WAL accumulates behind the unfinished slot. "
            "Next: the tables below show which slot it is and what it waits for. No data: Prometheus does not "
            "scrape the exporter."
        )
        .links(runbooks("PgSlotCreationStuck", "PgSlotCreationBlocked"))
    )
    yield (
        single(
            102,
            "Longest wait",
            "s",
            f"max({of_slot('pgslot_creation_wait_seconds', scope)}) or {seen(scope)}",
            [(None, "green"), (CREATION_STUCK, "orange"), (CREATION_BLOCKED, "red")],
            none="no data",
        )
        .decimals(0)
        .description(
            "How long the oldest creation has waited; 0 if none waits. Healthy: below a second. Bad: from 30 s "
            "on, where PgSlotCreationStuck fires, or from 60 s on if a transaction blocks it "
            "(PgSlotCreationBlocked). Next: what it waits for, below."
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
            "Slots that PostgreSQL has invalidated: what they needed is gone. Healthy: 0. Bad: any; the "
            "consumer needs a new slot and a new copy of its data. Next: tell the consumer's owner, then drop "
            "the slot; the runbook has the order."
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
            "Time until the first slot is lost if its headroom keeps shrinking as in the last 15 minutes. "
            "Healthy: more than a week; this also shows when nothing shrinks or no limit is set (then the disk "
            "is the limit: see retained WAL). Bad: less than 4 hours. Next: the slot, and why it retains WAL, "
            "below. Raising max_slot_wal_keep_size needs only a reload, and buys time if the disk has room."
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
            "What is left of max_slot_wal_keep_size for the slot that has used most of it. Healthy: above 50 %. "
            "Bad: below 25 %; from 0 on, the next checkpoint invalidates the slot. No limit: "
            "max_slot_wal_keep_size is -1, every slot is lost already, or Prometheus does not scrape the "
            "exporter. Next: why the slot retains WAL, below."
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
            "Servers that do not answer the exporter or refuse its login: this dashboard shows nothing about "
            "their slots. Healthy: 0. Bad: any. No data: Prometheus does not scrape the exporter. Next: the "
            "exporter's log has the error, pgslot_probe_status its kind."
        )
        .links(runbooks("PgSlotTargetDown", "PgSlotLoginFailed"))
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
                Column("heal", "To the healer", names={"log_standby_snapshot": ("yes", "blue")}, width=140),
                Column("Value", "For", unit="s", width=120),
            ],
            f"({lasts}) and on (alertname, {SLOT_KEY}) ALERTS{{{firing(scope)}}}",
        )
        .sort_by([common.TableSortByFieldState().display_name("Severity").desc(False)])  # critical, then warning
        .height(6)
        .description(
            "Alerts of this project that fire now, in Prometheus; the name links to the runbook. Healthy: none. "
            "Bad: critical alerts, and warnings that nobody handles. Next: open the runbook of the topmost "
            "alert. Silences and routes belong to Alertmanager and do not show here."
        )
        .links(runbooks("PgSlotExporterDown"))
    )

"""The fleet overview's last row: what the healer did, and whether it could."""

from collections.abc import Iterable

from grafana_foundation_sdk.builders import stat, table, timeseries

from dashboards import healing, risk
from dashboards.panels import Column, counts, lines, query, rows, runbooks, single
from dashboards.terms import FLEET, HEALER, NO_YES_OF_FAULT, of_cluster

ACTIONS = {
    "started": "green",
    "joined": "blue",
    "resolved": "text",
    "heartbeat": "super-light-blue",
    "ignored_resolved": "light-blue",
    "ignored_disabled": "purple",
    "ignored_no_heal_label": "orange",
    "ignored_no_slot": "dark-orange",
    "ignored_unknown_cluster": "yellow",
    "ignored_unknown_node": "dark-yellow",
    "ignored_not_configured": "super-light-purple",
    "ignored_remedy_off": "super-light-green",
    "refused_full": "red",
    "refused_budget": "dark-red",
}


def healed() -> Iterable[stat.Panel | timeseries.Panel | table.Panel]:
    yield (
        single(
            401,
            "Clusters that may still be healed",
            "none",
            "min(pgslot_heal_clusters_remaining)",
            [(None, "red"), (1, "green")],
            none="no healer",
        )
        .span(6)
        .description(
            "How many more clusters the healer may act on at the same time (clusters that it only observes do "
            "not count). The limit is a brake for a common cause that makes alerts fire everywhere. Healthy: "
            "above 0. Bad: 0; the healer then refuses further alerts (refused_budget), and their slots wait. "
            "Next: look for the common cause; the limit is in the healer's configuration."
        )
        .links(runbooks("PgSlotHealNoEffect"))
    )
    yield healing.seconds(402, span=6)
    yield healing.last_webhook(403, span=6)
    yield healing.alertmanager(404, span=6)
    yield by_cluster()
    yield healing.outcomes(406, FLEET, span=12)
    yield healing.calls(407, FLEET, span=12)
    yield (
        counts(
            lines(
                408,
                "Alerts that the healer received",
                "none",
                query("sum by (action) (increase(pgslot_heal_alerts_total[$__rate_interval])) > 0", "{{action}}"),
            ),
            ACTIONS,
        )
        .description(
            "Alerts in Alertmanager's webhooks by what the healer did with them, for all clusters. Healthy: "
            "heartbeat, started, joined, resolved, ignored_resolved. Bad: any other ignored_ or refused_ value: "
            "an alert that should start a heal does not. Also bad: nothing at all while an alert with the heal "
            "label fires. Next: pg-slot-healer doctor checks the path from Prometheus to the healer."
        )
        .links(runbooks("PgSlotHealerDown"))
    )
    yield healing.calls_left(409, FLEET, span=12)
    yield healing.refusals(410, FLEET, span=24)


def by_cluster() -> table.Panel:
    """Make a table of what the healer could do and did."""
    healed_ones = f'{FLEET.cluster},outcome="healed"'
    why_not = of_cluster("pgslot_heal_capability_unavailable", FLEET, by="reason")
    able = of_cluster("pgslot_heal_capability_unavailable", FLEET)
    return (
        rows(
            405,
            "The healer, by cluster (episodes: of this time range)",
            [
                Column(
                    "cluster", "Cluster", link=("Open the cluster", f"{risk.TO_CLUSTER}&var-cluster=${{__value.raw}}")
                ),
                Column("Value #A", "Can act", names=NO_YES_OF_FAULT),
                Column("reason", "If not, why", names=HEALER),
                Column("why", "Switched off because"),
                Column("Value #D", "Episode runs", names={"0": ("no", "text"), "1": ("yes", "blue")}),
                Column("Value #E", "Episodes", "none"),
                Column("Value #F", "Healed", "none"),
                Column("Value #G", "Calls left this hour", "none", [(None, "red"), (1, "text")]),
                Column("Value #H", "Last call", "dateTimeFromNow"),
            ],
            able,
            f"{why_not} == 1",
            of_cluster("pgslot_heal_disabled_info", FLEET, by="why"),
            of_cluster("pgslot_heal_episode_active", FLEET),
            f"round(sum by (cluster) (increase(pgslot_heal_episodes_total{{{FLEET.cluster}}}[$__range])))",
            f"round(sum by (cluster) (increase(pgslot_heal_episodes_total{{{healed_ones}}}[$__range])))",
            f'min by (cluster) (pgslot_heal_calls_remaining{{{FLEET.cluster},budget="hour",'
            'remedy="log_standby_snapshot"})',
            f"1000 * {of_cluster('pgslot_heal_last_call_timestamp_seconds', FLEET)}",
        )
        .description(
            "What the healer could do and what it did, one row per cluster that it may act on. Healthy: it can "
            "act, and episodes are few and end as healed. Bad: a reason why it cannot act; many episodes that "
            "ended otherwise; no calls left. Next: the runbook has the fix for each reason."
        )
        .links(runbooks("PgSlotHealUnavailable", "PgSlotHealNoEffect"))
    )

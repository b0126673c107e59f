"""What did the healer do, and could it? Panels that both dashboards have."""

from grafana_foundation_sdk.builders import common, stat, timeseries
from grafana_foundation_sdk.models import common as common_model

from dashboards.panels import counts, lines, named, query, runbooks, single
from dashboards.terms import CALLS, GUARDS, OUTCOMES, Scope, of_cluster


def running(ident: int, scope: Scope) -> stat.Panel:
    return (
        single(
            ident,
            "Episodes running",
            "none",
            f"sum({of_cluster('pgslot_heal_episode_active', scope)})",
            [(None, "green"), (1, "blue")],
            none="no healer",
        )
        .description(
            "Episodes in which the healer is calling for a record or waiting for its effect, right now. "
            "Healthy: 0, or 1 for seconds. Bad: an episode that runs for many minutes; then something else "
            "blocks the slot. Next: its outcome, at the bottom of this page; the healer's own page shows each "
            "episode step by step."
        )
        .links(runbooks("PgSlotHealNoEffect", "PgSlotHealerDown"))
    )


def seconds(ident: int, span: int) -> stat.Panel:
    return (
        single(
            ident,
            "Median time to heal",
            "s",
            "histogram_quantile(0.5, sum by (le) (increase(pgslot_heal_seconds_bucket[$__range]))) >= 0",
            [(None, "green"), (15, "orange")],
            none="none in this time",
        )
        .span(span)
        .description(
            "From the healer's first call to its effect, over the whole time range and all clusters of the "
            "healer (heals are too rare for a line). Healthy: a few seconds. Bad: above 15 s, because the "
            "server's background writer might have been as fast; the time is longer where a transaction was in "
            "the way. Next: calls by result."
        )
        .links(runbooks("PgSlotHealNoEffect"))
    )


def last_call(ident: int, scope: Scope, span: int) -> stat.Panel:
    return (
        single(
            ident,
            "Last call",
            "dateTimeFromNow",
            f"1000 * (max({of_cluster('pgslot_heal_last_call_timestamp_seconds', scope)}) > 0)",
            [(None, "text")],
            none="none",
        )
        .span(span)
        .color_mode(common_model.BigValueColorMode.VALUE)
        .text(common.VizTextDisplayOptions().value_size(32))
        .description(
            "When the healer last called pg_log_standby_snapshot() or ended a transaction, since it started. "
            "Healthy: any time, or none. Bad: long ago while a creation waits for running_xacts. Next: whether "
            "the cluster can be healed, at the top; the alerts that the healer received."
        )
        .links(runbooks("PgSlotHealUnavailable", "PgSlotHealerDown"))
    )


def outcomes(ident: int, scope: Scope, span: int) -> timeseries.Panel:
    return (
        counts(
            lines(
                ident,
                "Heal episodes by outcome",
                "none",
                query(
                    f"sum by (outcome) (increase(pgslot_heal_episodes_total{{{scope.cluster}}}[$__rate_interval])) > 0",
                    "{{outcome}}",
                ),
                span=span,
            ),
            OUTCOMES,
        )
        .description(
            "The outcome of each slot, at the time when its heal ended. Healthy: few; healed, or "
            "resolved_itself where a transaction was in the way. Bad: no_effect, gave_up, unavailable, error. "
            "Next: the healer's page, or its /episodes, shows the reason for each."
        )
        .links(runbooks("PgSlotHealNoEffect", "PgSlotHealUnavailable"))
    )


def calls(ident: int, scope: Scope, span: int) -> timeseries.Panel:
    return (
        counts(
            lines(
                ident,
                "Calls by result",
                "none",
                query(
                    f"sum by (result) (increase(pgslot_heal_calls_total{{{scope.cluster}}}[$__rate_interval])) > 0",
                    "{{result}}",
                ),
                span=span,
            ),
            CALLS,
        )
        .description(
            "Calls of pg_log_standby_snapshot() by result, and attempts to end a transaction (seen, ended, "
            "refused, dry_run). Healthy: a handful per episode, all ok. Bad: other results, or calls for many "
            "minutes without an episode that ends as healed: then a transaction blocks the slot. Next: what the "
            "creation waits for, above."
        )
        .links(runbooks("PgSlotHealNoEffect"))
    )


def calls_left(ident: int, scope: Scope, span: int) -> timeseries.Panel:
    """Budgets: how much the healer may still do."""
    return (
        lines(
            ident,
            "Calls that the healer may still make",
            "none",
            query(
                f"min by (cluster, remedy, budget) (pgslot_heal_calls_remaining{{{scope.cluster}}})",
                "{{cluster}}, {{remedy}} per {{budget}}",
            ),
            span=span,
        )
        .min(0)
        .description(
            "What is left of the healer's budgets: of an hour, which refills gradually, and of an episode while "
            "one runs. Healthy: well above 0. Bad: 0; the healer then only observes. Next: calls by result "
            "shows why so many calls were needed; the budgets are in the configuration."
        )
        .links(runbooks("PgSlotHealNoEffect"))
    )


def refusals(ident: int, scope: Scope, span: int) -> timeseries.Panel:
    """Each guard has its own colour: they ask for different things to be done."""
    return (
        counts(
            lines(
                ident,
                "What kept the healer from ending a transaction",
                "none",
                query(
                    f"sum by (guard) (increase(pgslot_heal_refusals_total{{{scope.cluster}}}[$__rate_interval])) > 0",
                    "{{guard}}",
                ),
                span=span,
            ),
            GUARDS,
        )
        .description(
            "Where the configuration allows the healer to end transactions that are about to cost a slot "
            "(end_transactions): what each guard has refused. Healthy: nothing, or active and too_young for a "
            "while. Bad: the same guard for many minutes; then nobody ends that transaction. Next: the runbook "
            "shows which guards a person may overrule."
        )
        .links(runbooks("PgSlotEndangeredByTransaction", "PgSlotPinnedByTransaction"))
    )


def last_webhook(ident: int, span: int) -> stat.Panel:
    return (
        single(
            ident,
            "Last webhook",
            "dateTimeFromNow",
            "1000 * max(pgslot_heal_last_webhook_timestamp_seconds)",
            [(None, "text")],
            none="no healer",
        )
        .span(span)
        .color_mode(common_model.BigValueColorMode.VALUE)
        .text(common.VizTextDisplayOptions().value_size(32))
        .description(
            "When Alertmanager last sent the healer an alert; before the first alert, the start of the healer. "
            "Healthy: any time while no alert with the heal label fires. Bad: before such an alert began to "
            "fire; the healer then does not receive it. Next: pg-slot-healer doctor checks the path from "
            "Prometheus to the healer."
        )
        .links(runbooks("PgSlotHealerDown"))
    )


def alertmanager(ident: int, span: int) -> stat.Panel:
    return (
        single(
            ident,
            "Alertmanager answers the healer",
            "none",
            "min(pgslot_heal_alertmanager_up)",
            [(None, "red"), (1, "green")],
            none="not asked",
        )
        .span(span)
        .mappings(named({"1": ("yes", "green"), "0": ("no", "red")}))
        .description(
            "Whether Alertmanager's API answered when the healer last asked which alerts fire and which are "
            "silenced. Healthy: yes. Bad: no; after a restart the healer then waits for the next webhook. Not "
            "asked: the configuration has no alertmanager_url, or Prometheus scrapes no healer. Next: check "
            "alertmanager_url and the network."
        )
        .links(runbooks("PgSlotHealerDown"))
    )

"""What surrounds the panels: variables, annotations, links, and the check that ids are what links may rely on."""

from collections.abc import Iterable
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from dashboards.panels import DATASOURCE
from dashboards.terms import Scope, firing, of_cluster

Panels = Iterable[stat.Panel | timeseries.Panel | table.Panel]

ALERT = "alertname, cluster, node, slot_name"
RUNBOOKS = "http://localhost:9877/runbooks"
"""As in alerts/pgslot.rules.yml: the exporter serves them. One sed replaces it in both."""


RECORD, ENDING = 'remedy="log_standby_snapshot"', 'remedy="end_transaction"'


class PrometheusAnnotation(model.AnnotationQuery):
    """With the keys that Grafana's Prometheus data source reads, and that the SDK's class has no names for."""

    extra: dict[str, object]

    def to_json(self) -> dict[str, object]:
        return super().to_json() | self.extra


@dataclass(frozen=True)
class Annotation(Builder[model.AnnotationQuery]):
    """Marks on all graphs where the query has a value above 0; with `at_value` at the time (ms) that the value is."""

    name: str
    color: str
    expr: str
    title: str
    text: str
    at_value: bool = False

    def build(self) -> model.AnnotationQuery:
        made = PrometheusAnnotation(
            name=self.name, datasource=DATASOURCE, icon_color=self.color, expr=self.expr, built_in=None
        )
        made.extra = {
            "titleFormat": self.title,
            "textFormat": self.text,
            "tagKeys": "cluster",
            "step": "15s",
            "useValueForTime": self.at_value,
        }
        return made


def annotations(scope: Scope) -> list[Annotation]:
    return [
        Annotation(
            "Alerts",
            "red",
            f"1000 * max by ({ALERT}) (ALERTS_FOR_STATE{{{scope.alert}}}) and on ({ALERT}) ALERTS{{{firing(scope)}}}",
            "{{alertname}} began",
            "{{cluster}} {{node}} {{slot_name}}",
            at_value=True,
        ),
        Annotation(
            "Heal episodes",
            "green",
            f"{of_cluster('pgslot_heal_episode_active', scope)} == 1",
            "The healer is at work",
            "{{cluster}}",
        ),
        Annotation(
            "Heal calls",
            "blue",
            f"1000 * {of_cluster('pgslot_heal_last_call_timestamp_seconds', scope, RECORD)}",
            "The healer called pg_log_standby_snapshot()",
            "{{cluster}}",
            at_value=True,
        ),
        Annotation(
            "Ended transactions",
            "orange",
            f"1000 * {of_cluster('pgslot_heal_last_call_timestamp_seconds', scope, ENDING)}",
            "The healer ended a transaction",
            "{{cluster}}: whose, and why, is in pgslot.ended on its primary and on the healer's page",
            at_value=True,
        ),
    ]


def _choice(name: str, label: str, values: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .query(values)
        .datasource(DATASOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )


def one(name: str, label: str, values: str) -> dashboard.QueryVariable:
    return _choice(name, label, values).multi(False).include_all(False)


def several(name: str, label: str, values: str) -> dashboard.QueryVariable:
    return (
        _choice(name, label, values)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def board(
    uid: str,
    title: str,
    description: str,
    *,
    scope: Scope,
    choices: list[dashboard.QueryVariable],
    other: tuple[str, str],
) -> dashboard.Dashboard:
    """Make a dashboard without panels; `other` is the title and uid of the one that it is read with."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["pgslot", "postgresql", "replication"])
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .refresh("30s")
        .time("now-6h", "now")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .link(
            dashboard.DashboardLink(other[0])
            .type(model.DashboardLinkType.LINK)
            .icon("dashboard")
            .url(f"/d/{other[1]}?var-datasource=${{datasource}}")
            .keep_time(True)
        )
    )
    for choice in choices:
        made.with_variable(choice)
    made.with_variable(
        dashboard.ConstantVariable("runbooks")
        .label("Runbooks")
        .description("Where the runbooks are served: the links of panels and alerts lead there.")
        .value(RUNBOOKS)
    )
    for annotation in annotations(scope):
        made.annotation(annotation)
    return made


def with_rows(made: dashboard.Dashboard, *rows: tuple[int, str, Panels]) -> dashboard.Dashboard:
    """Add rows with their panels: the row's id, its title, what is in it."""
    for ident, title, panels in rows:
        made.with_row(dashboard.Row(title).id(ident))
        for panel in panels:
            made.with_panel(panel)
    return made

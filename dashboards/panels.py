"""How a panel of each kind is made: one number, lines over time, bars that count, or a table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TypeVar

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import prometheus as prometheus_model

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

Panel = TypeVar("Panel", stat.Panel, timeseries.Panel, table.Panel)
Steps = list[tuple[float | None, str]]
Names = Mapping[str, tuple[str, str]]
"""A raw value -> the text and the colour in its place."""

BAD_FROM_ONE: Steps = [(None, "green"), (1, "red")]


@dataclass(frozen=True)
class Column:
    """A column of a table: `source` is a label, or "Value #A" for the value of the query A."""

    source: str
    title: str
    unit: str = "string"
    steps: Steps | None = None
    names: Names | None = None
    link: tuple[str, str] | None = None
    """Its title and its URL."""
    width: int | None = None
    """Pixels; None: as wide as there is room."""


SESSION_COLUMNS = (
    Column("pid", "Pid", width=90),
    Column("datname", "Database"),
    Column("usename", "User"),
    Column("application_name", "Application"),
    Column("state", "State"),
)
"""The labels of a metric that names a session."""


def query(expr: str, legend: str = "") -> prometheus.Dataquery:
    return prometheus.Dataquery().datasource(DATASOURCE).expr(expr).legend_format(legend or "__auto")


def with_queries(panel: Panel, queries: Iterable[prometheus.Dataquery]) -> Panel:
    for letter, target in zip(ascii_uppercase, queries, strict=False):
        panel.with_target(target.ref_id(letter))
    return panel


def thresholds(steps: Steps) -> model.ThresholdsConfig:
    return model.ThresholdsConfig(
        mode=model.ThresholdsMode.ABSOLUTE, steps=[model.Threshold(value=value, color=color) for value, color in steps]
    )


def named(names: Names) -> list[model.ValueMapping]:
    options = {
        value: model.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(names.items())
    }
    return [model.ValueMap(options=options)]


def runbooks(*alerts: str) -> list[Builder[model.DashboardLink]]:
    """Return a panel's links to the runbooks of these alerts; the variable `runbooks` has their base."""
    return [
        dashboard.DashboardLink(f"Runbook: {alert}")
        .type(model.DashboardLinkType.LINK)
        .url(f"${{runbooks}}/{alert}")
        .target_blank(True)
        for alert in alerts
    ]


def single(ident: int, title: str, unit: str, expr: str, steps: Steps, *, none: str, legend: str = "") -> stat.Panel:
    """One number, coloured by how bad it is; `none` is what no data means here."""
    return (
        with_queries(stat.Panel(), [query(expr, legend).instant()])
        .id(ident)
        .title(title)
        .unit(unit)
        .height(4)
        .span(3)
        .datasource(DATASOURCE)
        .thresholds(_config(steps))
        .no_value(none)
        .color_mode(common_model.BigValueColorMode.BACKGROUND_SOLID)
        .graph_mode(common_model.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
    )


def lines(ident: int, title: str, unit: str, *queries: prometheus.Dataquery, span: int = 12) -> timeseries.Panel:
    return (
        with_queries(timeseries.Panel(), [target.range() for target in queries])
        .id(ident)
        .title(title)
        .unit(unit)
        .height(8)
        .span(span)
        .datasource(DATASOURCE)
        .line_width(2)
        .fill_opacity(8)
        .show_points(common_model.VisibilityMode.AUTO)
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_model.TooltipDisplayMode.MULTI)
            .sort(common_model.SortOrder.DESCENDING)
        )
        .legend(
            common.VizLegendOptions()
            .display_mode(common_model.LegendDisplayMode.LIST)
            .placement(common_model.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs([])
        )
    )


def marked(panel: timeseries.Panel, steps: Steps) -> timeseries.Panel:
    """Draws a dashed line at each threshold, always in sight: how far away it is is what one wants to know."""
    highest = max(value for value, _ in steps if value is not None)
    if highest > 0:
        panel.axis_soft_max(highest * 11 / 10)
    return (
        panel.axis_soft_min(0)
        .thresholds(_config(steps))
        .thresholds_style(common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.DASHED))
    )


def stacked(panel: timeseries.Panel) -> timeseries.Panel:
    return panel.fill_opacity(40).stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A"))


def counts(panel: timeseries.Panel, colors: Mapping[str, str]) -> timeseries.Panel:
    """Stacked bars, one a minute at the finest; a series' colour is by its name, the same wherever it is shown."""
    stacked(panel).draw_style(common_model.GraphDrawStyle.BARS).fill_opacity(80)
    panel.decimals(0).min(0).interval("1m").no_value("none")
    for name, color in colors.items():
        panel.override_by_name(name, [model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})])
    return panel


def rows(ident: int, title: str, columns: list[Column], *exprs: str) -> table.Panel:
    """
    Make a table of what the queries answer now, in the order of the columns; others are not shown.

    Several queries become one row wherever the labels that they share are equal; a cell stays empty where one of them
    has no answer.
    """
    queries = [query(expr).instant().format(prometheus_model.PromQueryFormat.TABLE) for expr in exprs]
    values = ["Value"] if len(exprs) == 1 else [f"Value #{letter}" for letter in ascii_uppercase[: len(exprs)]]
    shown = [column.source for column in columns]
    panel = (
        with_queries(table.Panel(), queries)
        .id(ident)
        .title(title)
        .unit("string")  # a pid is not a quantity
        .height(6)
        .span(24)
        .datasource(DATASOURCE)
        .no_value("none")
        .show_header(True)
        .min_width(70)
        .cell_height(common_model.TableCellHeight.SM)
    )
    if len(exprs) > 1:
        panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        model.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": dict.fromkeys(
                    (field for field in ("Time", "cluster", *values) if field not in shown), True
                ),
                "indexByName": {source: index for index, source in enumerate(shown)},
                "renameByName": {column.source: column.title for column in columns},
            },
        )
    )
    for column in columns:
        panel.override_by_name(column.title, list(_properties(column)))
    return panel


def _properties(column: Column) -> Iterable[model.DynamicConfigValue]:
    yield model.DynamicConfigValue("unit", column.unit)
    # What the table says when it is empty must not stand in its empty cells.
    yield model.DynamicConfigValue("noValue", "")
    if column.width is not None:
        yield model.DynamicConfigValue("custom.width", column.width)
    if column.steps is not None:
        yield model.DynamicConfigValue("thresholds", thresholds(column.steps))
    if column.names is not None:
        yield model.DynamicConfigValue("mappings", named(column.names))
    if column.steps is not None or column.names is not None:
        yield model.DynamicConfigValue("custom.cellOptions", {"type": "color-text"})
    if column.link is not None:
        title, url = column.link
        blank = not url.startswith("/")
        yield model.DynamicConfigValue("links", [{"title": title, "url": url, "targetBlank": blank}])


def _config(steps: Steps) -> dashboard.ThresholdsConfig:
    config = thresholds(steps)
    return dashboard.ThresholdsConfig().mode(config.mode).steps(config.steps)

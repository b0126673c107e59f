"""How a panel of each kind is made: one number, lines over time, or a table of series."""

from collections.abc import Iterable
from typing import TypeVar

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import prometheus as prometheus_model

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

Panel = TypeVar("Panel", stat.Panel, timeseries.Panel, table.Panel)
Steps = list[tuple[float | None, str]]


def query(expr: str, legend: str = "") -> prometheus.Dataquery:
    return prometheus.Dataquery().datasource(DATASOURCE).expr(expr).legend_format(legend or "__auto")


def with_queries(panel: Panel, queries: Iterable[prometheus.Dataquery]) -> Panel:
    for letter, target in zip("ABCD", queries, strict=False):
        panel.with_target(target.ref_id(letter))
    return panel


def thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=color) for value, color in steps])
    )


def single(title: str, unit: str, expr: str, steps: Steps, *, none: str, legend: str = "") -> stat.Panel:
    """One number, coloured by how bad it is; `none` is what no data means here."""
    return (
        with_queries(stat.Panel(), [query(expr, legend).instant()])
        .title(title)
        .unit(unit)
        .height(4)
        .span(4)
        .datasource(DATASOURCE)
        .thresholds(thresholds(steps))
        .no_value(none)
        .color_mode(common_model.BigValueColorMode.VALUE)
        .graph_mode(common_model.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
    )


def lines(title: str, unit: str, *queries: prometheus.Dataquery, span: int = 12) -> timeseries.Panel:
    return (
        with_queries(timeseries.Panel(), [target.range() for target in queries])
        .title(title)
        .unit(unit)
        .height(8)
        .span(span)
        .datasource(DATASOURCE)
        .fill_opacity(10)
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
    """Draws a dashed line at each threshold."""
    return panel.thresholds(thresholds(steps)).thresholds_style(
        common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.DASHED)
    )


def stacked(panel: timeseries.Panel) -> timeseries.Panel:
    return panel.fill_opacity(40).stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A"))


def counts(panel: timeseries.Panel) -> timeseries.Panel:
    return stacked(panel).draw_style(common_model.GraphDrawStyle.BARS).decimals(0).min(0)


def rows(title: str, unit: str, expr: str, columns: dict[str, str]) -> table.Panel:
    """One row per series: the labels in the order of `columns`, under those headings; `unit` is the value's."""
    hidden = ("Time", "__name__", "job", "instance")
    return (
        with_queries(table.Panel(), [query(expr).instant().format(prometheus_model.PromQueryFormat.TABLE)])
        .title(title)
        .unit("string")  # a pid is no quantity
        .override_by_name(columns["Value"], [model.DynamicConfigValue(id_val="unit", value=unit)])
        .height(6)
        .span(24)
        .datasource(DATASOURCE)
        .no_value("none")
        .show_header(True)
        .with_transformation(
            model.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": dict.fromkeys(hidden, True),
                    "indexByName": {column: index for index, column in enumerate(columns)},
                    "renameByName": columns,
                },
            )
        )
    )

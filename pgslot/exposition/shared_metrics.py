"""Metrics that both programs have: the running version, the last reload of the configuration, and Patroni's answers."""

from collections.abc import Iterable, Iterator

from pgslot import __version__
from pgslot.exposition.metric import Metric, gauges
from pgslot.exposition.text_format import Sample, SeriesBlock, label_text

_PROCESS = (
    Metric("pgslot_build_info", "gauge", ("version",), "The running version; always 1.", "this program"),
    *gauges(
        (),
        ("pgslot_config_last_reload_successful", "Whether the last load of the configuration worked.", "this program"),
        (
            "pgslot_config_last_reload_success_timestamp_seconds",
            "Unix time of the last load of the configuration that worked.",
            "this program",
        ),
    ),
)

_PATRONI = gauges(
    ("cluster",),
    (
        "pgslot_patroni_up",
        "Of a cluster whose nodes Patroni tells: whether one of its URLs gave an answer when last asked.",
        "GET /cluster of Patroni",
    ),
    (
        "pgslot_patroni_last_answer_timestamp_seconds",
        "Unix time of the last answer, which the nodes are taken from; absent before the first.",
        "GET /cluster of Patroni",
    ),
    ("pgslot_patroni_members", "Members of the last answer that have an address.", "GET /cluster of Patroni"),
)

COMMON = {metric.name: metric for metric in (*_PROCESS, *_PATRONI)}
"""Name to metric, as part of each program's catalogue."""


def process_series(*, reload_ok: bool, reloaded_at: float) -> Iterator[SeriesBlock]:
    """Yield the program's own series; `reloaded_at` is the Unix time of the last load that worked."""
    yield Sample("pgslot_build_info", label_text(("version",), (__version__,)), 1)
    yield Sample("pgslot_config_last_reload_successful", "", reload_ok)
    yield Sample("pgslot_config_last_reload_success_timestamp_seconds", "", reloaded_at)


def patroni_series(statuses: Iterable[tuple[str, bool, float | None, int | None]]) -> Iterator[SeriesBlock]:
    """
    Yield the series of the clusters whose members Patroni lists.

    A status is the cluster, whether Patroni answered the last poll, and of its last answer the Unix time and the number
    of members, both None before the first answer.
    """
    for cluster, up, answered_at, members in statuses:
        labels = label_text(("cluster",), (cluster,))
        yield Sample("pgslot_patroni_up", labels, up)
        yield Sample("pgslot_patroni_last_answer_timestamp_seconds", labels, answered_at)
        yield Sample("pgslot_patroni_members", labels, members)

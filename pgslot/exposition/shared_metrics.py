"""Metrics that both programs have: the running version, the last reload of the configuration, and Patroni's answers."""

from collections.abc import Iterable, Iterator

from pgslot import __version__
from pgslot.exposition.metric import Metric, gauges
from pgslot.exposition.text_format import Sample, SeriesBlock, label_text

_PROCESS = (
    Metric("pgslot_build_info", "gauge", ("version",), "The running version; always 1.", "this program"),
    *gauges(
        (),
        (
            "pgslot_config_last_reload_successful",
            "1 if the last load of the configuration succeeded, 0 if it failed and the old configuration is still"
            " in force.",
            "this program",
        ),
        (
            "pgslot_config_last_reload_success_timestamp_seconds",
            "Unix time of the last successful load of the configuration.",
            "this program",
        ),
    ),
)

_PATRONI = gauges(
    ("cluster",),
    (
        "pgslot_patroni_up",
        "1 if one of the cluster's Patroni URLs answered the last request for its members, 0 if none did. "
        "Only for clusters whose nodes come from Patroni.",
        "GET /cluster of Patroni",
    ),
    (
        "pgslot_patroni_last_answer_timestamp_seconds",
        "Unix time of Patroni's last answer, which supplies the list of nodes. Absent before the first answer.",
        "GET /cluster of Patroni",
    ),
    ("pgslot_patroni_members", "Members in Patroni's last answer that have an address.", "GET /cluster of Patroni"),
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

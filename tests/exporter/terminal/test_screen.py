"""What `status` prints, on terminals of several widths and abilities, and in a pipe."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from exporter.terminal.console import console_for, print_plainly
from exporter.terminal.screen import MAX_ADVICE, Shown, screen
from exporter.terminal.table import MAX_ROWS
from pgslot.snapshot.model import QueryStatus
from pgslot.snapshot.rows import SlotUser
from pgslot.status.growth import HeldSample
from pgslot.status.report import Report, cluster_report, joined
from pgslot.status.slot_status import SlotKey
from pgslot.status.sparkline import sparkline
from tests.support.builders.snapshots import cluster, node, unreachable_node
from tests.support.builders.statuses import HEALTHY, LOST, UNUSED

USER = SlotUser("healthy", 4970, "cdc", "debezium", "10.0.0.7", 60.0)
HOSTILE = HEALTHY._replace(slot_name="hostile", database="\x1b[31mred[/red] [bold]")


def report(*slots: Any) -> Report:
    return cluster_report(cluster(node("shop-1", recovery=False, slots=slots, users=(USER,))))


def drawn(shown: Report, *, encoding: str = "utf-8", **options: Any) -> str:
    """Return what a terminal shows."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace")
    console = Console(file=stream, force_terminal=True, **({"color_system": None, "width": 200} | options))
    console.print(screen(shown, console, Shown()), crop=False)
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [200, 150, 110, 80, 60, 40])
def test_every_width_shows_every_slot_in_full(width: int) -> None:
    text = drawn(report(HEALTHY, UNUSED, LOST), width=width)
    joined_text = " ".join(text.replace("│", " ").split())
    for words in ("healthy", "unused", "gone", "not in use for 2 h", "3.0 GiB", "LOST"):
        assert words in joined_text
    assert "…" not in text
    commands = [line for line in text.splitlines() if "SELECT" in line]
    assert all(len(line) <= width for line in text.splitlines() if line not in commands)
    assert all(line.endswith(";") for line in commands), "a statement is one line, whatever the width"


def test_wide_terminal_gets_a_table_and_a_narrow_one_gets_blocks() -> None:
    assert "╭" in drawn(report(UNUSED), width=200)
    assert "╭" not in drawn(report(UNUSED), width=60)


def test_terminal_without_utf8_gets_ascii() -> None:
    text = drawn(report(UNUSED), encoding="ascii")
    assert "+-" in text
    assert sparkline([HeldSample(0, 0), HeldSample(1, 9)], ascii_only=True) == "_@"


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[1;31m" in drawn(report(LOST), color_system="standard")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "31m" not in drawn(report(LOST), color_system="standard")


def test_pipe_has_no_colour_and_no_boxes() -> None:
    stream = io.StringIO()
    console = console_for(stream)
    console.print(screen(report(UNUSED, LOST), console, Shown()))
    assert stream.getvalue().isascii()
    assert "\x1b" not in stream.getvalue()


def test_names_of_others_reach_no_terminal_as_they_are() -> None:
    text = drawn(report(HOSTILE))
    assert "\x1b" not in text
    assert "\\x1b[31mred[/red] [bold]" in text


def test_columns_without_content_are_left_out() -> None:
    text = drawn(report(HEALTHY))
    assert "in use by" in text
    assert "trend" not in text
    assert "time left" not in text


def test_trend_shows_while_watching() -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    samples = {("c", SlotKey("shop-1", "unused")): [HeldSample(at, at * 10) for at in range(8)]}
    with console.capture() as captured:
        console.print(screen(report(UNUSED), console, Shown(samples, watching=True)))
    assert "▁▂▃▄▅▆▇█" in captured.get()


def test_advice_for_many_slots_is_bounded() -> None:
    slots = [UNUSED._replace(slot_name=f"s{number:02}") for number in range(MAX_ADVICE + 3)]
    text = drawn(report(*slots))
    assert "and 3 more: --slot=NAME shows one of them" in text


def test_terminal_gets_the_worst_slots_and_a_pipe_gets_all() -> None:
    slots = [HEALTHY._replace(slot_name=f"s{number:03}") for number in range(MAX_ROWS + 5)]
    shown = report(*slots, LOST)
    text = drawn(shown)
    assert "gone" in text
    assert "and 6 more; --json and a pipe have all of them" in text
    stream = io.StringIO()
    print_plainly(console_for(stream), screen(shown, console_for(stream), Shown()))
    lines = [line for line in stream.getvalue().splitlines() if line.startswith("shop-1  ")]
    assert len(lines) == MAX_ROWS + 6
    assert len({line.index("logical") for line in lines}) == 1, "the columns are aligned"


def test_what_could_not_be_seen_is_named() -> None:
    down = unreachable_node("shop-2")
    text = drawn(cluster_report(cluster(node("shop-1", recovery=False), down)))
    assert "shop-2 cannot be reached" in text
    assert "Nothing needs anybody as far as could be seen, and not everything could be seen." in text


@pytest.mark.parametrize(
    ("nodes", "code"),
    [
        ((node("p", recovery=False, slots=(HEALTHY,)),), 0),
        ((node("p", recovery=False, slots=(UNUSED,)),), 1),
        ((node("p", recovery=False, slots=(HEALTHY,)), unreachable_node("s")), 3),
        ((node("p", recovery=False, slots=(UNUSED,)), unreachable_node("s")), 1),
        ((node("p", recovery=False), node("q", recovery=False)), 1),
        ((node("p", recovery=False, transactions=None),), 0),
    ],
)
def test_exit_code(nodes: Any, code: int) -> None:
    assert cluster_report(cluster(*nodes)).exit_code == code


def test_query_that_failed_is_something_unseen() -> None:
    failed = node("p", recovery=False, transactions=None)
    failed.statuses["transactions"] = QueryStatus.TIMEOUT
    shown = cluster_report(cluster(failed))
    assert shown.exit_code == 3
    assert "these queries failed: transactions (timeout)" in drawn(shown)


def test_several_clusters_are_one_list_worst_first() -> None:
    fine, bad = report(HEALTHY), report(LOST)
    assert [slot.slot_name for slot in joined([fine, bad]).slots] == ["gone", "healthy"]


@pytest.mark.parametrize(
    ("values", "text"),
    [([], ""), ([0, 0], "▁▁"), ([1, 1], "▅▅"), ([0, 100], "▁█"), ([100, 0, 100], "█▁█")],
)
def test_sparkline_goes_from_nothing_to_the_most(values: list[int], text: str) -> None:
    assert sparkline([HeldSample(at, value) for at, value in enumerate(values)]) == text


def test_function_that_a_managed_service_refuses_is_named() -> None:
    aurora = replace(
        node("p", recovery=False, slots=(HEALTHY,)), refused={"pg_current_wal_lsn": QueryStatus.UNSUPPORTED}
    )
    assert "p: what only pg_current_wal_lsn() shows, which the server refuses to run" in drawn(
        cluster_report(cluster(aurora))
    )

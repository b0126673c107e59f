"""The incident as a page: the observations in order, and two graphs of samples that Prometheus has stored."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from tests.simulations.seed_incident.incident import KEEP_MIB, Story

MEBIBYTE = 1024 * 1024
WIDTH, HEIGHT, LEFT, BOTTOM = 860, 220, 70, 30
_MARKS = ("begin", "PgSlotPinnedByTransaction", "PgSlotWalHeadroomLow", "PgSlotLossPredicted", "lost", "named", "ended")
_SHORT = {
    "begin": "BEGIN",
    "PgSlotPinnedByTransaction": "pinned",
    "PgSlotWalHeadroomLow": "headroom low",
    "PgSlotLossPredicted": "loss predicted",
    "lost": "lost",
    "named": "blocker named",
    "ended": "session ended",
}

_PAGE = """# The incident that this project began with

A forgotten transaction pins a slot, WAL grows behind it until the slot is lost, and the slot that is made in its place
waits for the same transaction. Told by a run on real servers (`python -m tests.simulations.seed_incident`,
`tests/e2e/test_seed_incident.py`), with thresholds of seconds in place of minutes. The healer may end no
transaction here, the default: a person does.

![WAL that the slot holds back, and what waits]({picture})

| after | who | what |
| ---: | --- | --- |
{rows}

The transaction was named {warned:.0f} s before the loss, and the loss predicted {predicted:.0f} s before it. The new
slot was usable {after:.1f} s after the session that the alert named was ended. Where `end_transactions` allows it, the
healer does that before the slot is lost: [PgSlotEndangeredByTransaction](runbooks/PgSlotEndangeredByTransaction.md),
`tests/e2e/test_terminate_transaction.py`.
"""


def page(story: Story, picture: str) -> str:
    """Return the page as Markdown; `picture` is the name of its picture's file."""
    warned = story.at["lost"] - story.at["PgSlotPinnedByTransaction"]
    predicted = story.at["lost"] - story.at["PgSlotLossPredicted"]
    after = story.at["made"] - story.at["ended"]
    rows = [
        f"| {observation.at - story.began:.0f} s | {observation.source} | {observation.text.replace('|', '/')} |"
        for observation in story.observations
    ]
    return _PAGE.format(picture=picture, rows="\n".join(rows), warned=warned, predicted=predicted, after=after)


def picture(story: Story) -> str:
    """Return the two graphs as SVG."""
    end = story.at["over"] - story.began
    retained = _since(story, "retained", 1 / MEBIBYTE)
    left = _since(story, "left", 1 / MEBIBYTE)
    upper = [("retained by slot orders", "#c4372f", retained), ("left until it is lost", "#2f6fc4", left)]
    lower = [
        ("age of the oldest transaction", "#8a6d1d", _since(story, "transaction", 1.0)),
        ("creation of slot orders_again waits", "#7a3fa0", _since(story, "waits", 1.0)),
    ]
    body = _graph(0, "MiB", end, upper, marks=story) + _graph(HEIGHT + 50, "seconds", end, lower, marks=None)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{2 * HEIGHT + 90}" font-family="sans-serif"'
        f' font-size="11"><rect width="100%" height="100%" fill="white"/>{body}</svg>\n'
    )


_Line = tuple[str, str, Sequence[tuple[float, float]]]


def _since(story: Story, name: str, factor: float) -> list[tuple[float, float]]:
    return [(at - story.began, value * factor) for at, value in story.series[name]]


def _graph(top: int, unit: str, end: float, lines: Sequence[_Line], marks: Story | None) -> str:
    values = [value for _, _, points in lines for _, value in points]
    maximum = max([*values, float(KEEP_MIB) if marks else 1.0]) * 1.1
    minimum = min(0.0, *values)
    plot = HEIGHT - BOTTOM - 30

    def x(seconds: float) -> float:
        return LEFT + seconds / end * (WIDTH - LEFT - 20)

    def y(value: float) -> float:
        return top + 30 + plot - (value - minimum) / (maximum - minimum) * plot

    parts = [f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y(0):.1f}" y2="{y(0):.1f}" stroke="#888"/>']
    for step in range(5):
        value = maximum / 1.1 * step / 4
        parts.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.0f}</text>')
    parts.append(f'<text x="{LEFT - 8}" y="{top + 16}" text-anchor="end" fill="#555">{unit}</text>')
    parts += [
        f'<text x="{x(second):.1f}" y="{top + HEIGHT - 4}" text-anchor="middle" fill="#555">{second} s</text>'
        for second in range(0, int(end) + 1, 20)
    ]
    if marks is not None:
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y(KEEP_MIB):.1f}" y2="{y(KEEP_MIB):.1f}" stroke="#c4372f"'
            f' stroke-dasharray="4 3"/><text x="{WIDTH / 2}" y="{y(KEEP_MIB) - 4:.1f}" text-anchor="middle"'
            ' fill="#c4372f">max_slot_wal_keep_size</text>'
        )
        for number, name in enumerate(_MARKS):
            at, high = x(marks.at[name] - marks.began), top + 62 + 13 * number
            side = "end" if at > WIDTH * 0.8 else "start"
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top + 30}" y2="{top + 30 + plot}" stroke="#bbb"/>'
                f'<text x="{at + (-3 if side == "end" else 3):.1f}" y="{high}" text-anchor="{side}"'
                f' fill="#333">{escape(_SHORT[name])}</text>'
            )
    for number, (label, colour, points) in enumerate(lines):
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts.append(f'<text x="{LEFT + 10 + 260 * number}" y="{top + 16}" fill="{colour}">{escape(label)}</text>')
    return "".join(parts)

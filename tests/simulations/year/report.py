"""The report of a year as Markdown."""

from statistics import median
from typing import TYPE_CHECKING

from tests.simulations.terminations.report import report as report_of_terminations

if TYPE_CHECKING:
    from tests.simulations.year.simulation import Simulation


def report_page(simulation: "Simulation", clusters: int, incidents: int, seed: int, spent: float) -> str:
    """Return the report; `spent`: seconds of CPU."""
    judge = simulation.judge
    days = simulation.clock.now / 86400
    lines = [
        f"{incidents:,} incidents in {clusters:,} clusters within {days:.1f} days (seed {seed}; {spent:.0f} s of CPU).",
        "",
        f"- Wrong actions, wrong verdicts, lost alerts: {sum(judge.mistakes.values()) or 'none'}.",
        *(f"  - {count:,} times: {what}" for what, count in judge.mistakes.most_common()),
        f"- {judge.ended[True]:,} ended with a record of the healer's, {judge.ended[False]:,} by themselves,"
        f" {judge.given_up:,} never.",
        f"- {sum(judge.calls.values()):,} calls, {simulation.alertmanager.sent:,} webhooks;"
        f" it died {simulation.restarts:,} times.",
        f"- Helped by a record of the healer's and told as resolved_itself: {sum(judge.underreported.values()):,}.",
    ]
    if judge.seconds:
        ordered = sorted(judge.seconds)
        late = ordered[int(len(ordered) * 0.99)]
        lines.append(
            f"- From the alert to the usable slot: median {median(ordered):.2f} s, 99th percentile {late:.1f} s,"
            f" longest {ordered[-1]:.0f} s (the transaction in the way included)."
        )
    lines += ["", "| incident | how often | calls |", "| --- | ---: | ---: |"]
    lines += [f"| {kind} | {count:,} | {judge.calls[kind]:,} |" for kind, count in judge.kinds.most_common()]
    lines += ["", "| outcome | slots |", "| --- | ---: |"]
    lines += [f"| {outcome} | {count:,} |" for outcome, count in judge.outcomes.most_common()]
    terminations = simulation.termination_judge
    if terminations.endings:
        lines += ["", "## Ended transactions", "", report_of_terminations(terminations, spent)]
    if judge.examples:
        lines += ["", "The first of what was wrong:", "", *(f"- {example}" for example in judge.examples)]
    return "\n".join(lines)

"""The report of the judge as Markdown."""

from tests.simulations.terminations.judge import TerminationJudge


def report(judge: TerminationJudge, spent: float) -> str:
    """Return the report; `spent`: seconds of CPU."""
    lines = [
        f"{len(judge.endings):,} sessions ended, {judge.outcomes['healed']:,} heals claimed ({spent:.0f} s of CPU).",
        "",
        f"- Mistakes: {sum(judge.mistakes.values()) or 'none'}.",
        *(f"  - {count:,} times: {what}" for what, count in judge.mistakes.most_common()),
        *(
            f"- Beyond the limit per hour, as earlier acts were forgotten by {why}: {count:,}."
            for why, count in judge.over_forgotten.most_common()
        ),
        f"- Lone holders that were allowed and not ended within some minutes: {judge.holders_left:,}.",
        "",
        "| incident | sessions ended |",
        "| --- | ---: |",
        *(f"| {kind} | {count:,} |" for kind, count in judge.kinds.most_common()),
        "",
        "| outcome | slots |",
        "| --- | ---: |",
        *(f"| {outcome} | {count:,} |" for outcome, count in judge.outcomes.most_common()),
    ]
    if judge.examples:
        lines += ["", "The first mistakes:", "", *(f"- {example}" for example in judge.examples)]
    return "\n".join(lines)

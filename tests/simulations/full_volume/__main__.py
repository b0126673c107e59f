"""
`make disk-full`: fills a small volume of PostgreSQL's in each situation, side by side, and prints (predicted, real).

It runs in a mount namespace of its own, so that nothing stays mounted, whatever ends it. The exit code is 1 if a
warning was late, did not name its cause, or was wrong by more than a factor of two.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence

from tests.simulations.full_volume.run import Filling, Run, fill
from tests.simulations.full_volume.situations import SITUATIONS
from tests.simulations.full_volume.volume import OWN_MOUNTS

_INSIDE = "PGSLOT_OWN_MOUNTS"
"""Set in the environment of the process that has mounts of its own."""

WARNINGS = ("PgSlotVolumeFullPredicted", "PgSlotGrowsWithoutLimit", "PgSlotArchiverFailing")
PAGE = "PgSlotVolumeFullSoon"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("situations", nargs="*", default=[name for name in SITUATIONS if name != "gone"])
    parser.add_argument("--mebibytes", type=int, default=300, help="size of each volume")
    parser.add_argument("--rate", type=int, default=700_000, help="bytes that each server writes in a second")
    parser.add_argument("--factor", type=int, default=60, help="by which the times of the rules are divided")
    parser.add_argument("--timeout", type=float, default=900)
    parser.add_argument("--rescue", action="store_true", help="one more server, on which all alerts fire and end")
    options = parser.parse_args(arguments)
    if os.environ.get(_INSIDE) is None:
        command = [*OWN_MOUNTS, sys.executable, "-m", "tests.simulations.full_volume", *arguments]
        os.execvpe(command[0], command, os.environ | {_INSIDE: "1"})  # noqa: S606 - no shell is wanted
    chosen = [SITUATIONS[name] for name in options.situations]
    run = fill(
        chosen,
        mebibytes=options.mebibytes,
        rate=options.rate,
        factor=options.factor,
        timeout=options.timeout,
        rescue=options.rescue,
    )
    print(table(run, options.mebibytes, options.factor))
    for filling in run.fillings:
        print(f"\n{filling.situation.name}: {json.dumps(filling.texts, indent=1)}")
    wrong = list(mistakes(run))
    print("", *wrong, sep="\n", file=sys.stderr)
    return int(bool(wrong))


def table(run: Run, mebibytes: int, factor: int) -> str:
    """Return the table as Markdown; times are those of the rules, `factor` times what was waited."""
    lines = [
        f"Volumes of {mebibytes} MB; times multiplied by {factor}, by which the times of the rules were divided.",
        "",
        "| What fills the volume | first warning, and what was free | page, and what was free | predicted | real |",
        "| --- | --- | --- | --- | --- |",
    ]
    for filling in run.fillings:
        warning = next((name for name in filling.fired if name in WARNINGS), None)
        predicted = "-" if filling.predicted is None else _hours(filling.predicted[1] * factor)
        real = "-" if filling.predicted is None else _hours(filling.real * factor)
        cells = (filling.situation.name, _first(filling, warning), _first(filling, PAGE), predicted, real)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _first(filling: Filling, alert: str | None) -> str:
    return "-" if alert is None or alert not in filling.fired else f"{alert}, {filling.fired[alert]:.0%}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h"


def mistakes(run: Run) -> Iterator[str]:
    """Yield what did not hold."""
    if run.missing:
        yield f"no series matched {', '.join(run.missing)}"
    if run.on_healthy:
        yield f"on the healthy server fired {', '.join(sorted(run.on_healthy))}"
    for filling in run.fillings:
        about = filling.situation.name
        if not filling.stopped_for_lack_of_space:
            yield f"{about}: the server did not end for lack of space"
        first = next((name for name in filling.fired if name in (*WARNINGS, PAGE)), None)
        if first not in WARNINGS or filling.fired[first] <= 0.5:
            yield f"{about}: no warning came first while half was free: {filling.fired}"
        if PAGE not in filling.fired:
            yield f"{about}: nobody was paged"
        if filling.situation.named not in filling.texts.get(PAGE, ""):
            yield f"{about}: the page does not name {filling.situation.named}: {filling.texts.get(PAGE)}"
        if filling.predicted is None or not 0.5 <= filling.predicted[1] / filling.real <= 2:
            real = None if filling.predicted is None else filling.real
            yield f"{about}: predicted {filling.predicted and filling.predicted[1]}, real {real} seconds"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Plays the scenes on 17, 18 and 19, and compares what rehearsals said with what the real switchovers did."""

import argparse
import sys
import time
from collections.abc import Sequence

from pgslot.diagnosis.failover_readiness import FIRST_MAJOR
from pgslot.snapshot.queries import SUPPORTED
from tests.rehearsals.scenes import SCENES, play
from tests.rehearsals.switchover import Row
from tests.support.paths import ROOT

PAGE = ROOT / "docs/explanation/failover-slots.md"
BEGIN, END = "<!-- make rehearsals -->\n", "<!-- end of make rehearsals -->"
MAJORS = [major for major in SUPPORTED if major >= FIRST_MAJOR]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--majors", type=int, nargs="+", default=MAJORS, choices=MAJORS)
    parser.add_argument("--scenes", nargs="+", default=[scene.__name__ for scene in SCENES])
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    results: list[tuple[int, Row]] = []
    for major in options.majors:
        for scene in SCENES:
            if scene.__name__ in options.scenes:
                began = time.monotonic()
                rows = play(scene, major).rows
                print(f"{major} {scene.__name__}: {time.monotonic() - began:.0f} s", flush=True)
                for row in rows:
                    mark = "agrees" if row.agrees else "DIFFERS"
                    print(f"  {mark}  {row.situation}: said {row.said}; {row.happened}", flush=True)
                results += [(major, row) for row in rows]
    differing = sum(not row.agrees for _, row in results)
    print(f"{len(results)} rehearsals of a slot or problem, {differing} differ from what happened")
    if options.write:
        text = PAGE.read_text("utf-8")
        before, rest = text.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{rest.split(END)[1]}", "utf-8")
    return 1 if differing or not results else 0


def table(results: Sequence[tuple[int, Row]]) -> str:
    """Return the Markdown table: a line for each situation and for what was said and happened, with the versions."""
    majors: dict[Row, list[int]] = {}
    for major, row in results:
        majors.setdefault(row, []).append(major)
    order = list(dict.fromkeys(row.situation for _, row in results))
    lines = [
        f"| {row.situation} | {row.said} | {row.happened} | {', '.join(map(str, versions))} |"
        for row, versions in sorted(majors.items(), key=lambda item: order.index(item[0].situation))
    ]
    return "\n".join(["| Situation | Said | Happened | On |", "| --- | --- | --- | --- |", *lines])


if __name__ == "__main__":
    sys.exit(main())

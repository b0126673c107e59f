"""Compares what preflights say with real creations on 14 to 19; `--write` writes the table into the docs."""

import argparse
import sys

from tests.preflights.comparison import Row
from tests.preflights.situations import SITUATIONS, compare
from tests.support.paths import ROOT

PAGE = ROOT / "docs/reference/preflight.md"
BEGIN, END = "<!-- python -m tests.preflights --write -->\n", "<!-- end of the table -->"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--majors", type=int, nargs="+", default=[*SITUATIONS], choices=[*SITUATIONS])
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    results: list[tuple[int, Row]] = []
    for major in options.majors:
        for row in compare(major).rows:
            mark = "agrees" if row.agrees else "DIFFERS"
            print(f"{major} {mark}  {row.situation}: said {row.said}; {row.happened}", flush=True)
            results.append((major, row))
    differing = sum(not row.agrees for _, row in results)
    print(f"{len(results)} situations, {differing} differ from what happened")
    if options.write:
        rows = [f"| {row.situation} | {row.said} | {row.happened} | {major} |" for major, row in results]
        table = "\n".join(["| Situation | Said | Happened | On |", "| --- | --- | --- | --- |", *rows])
        text = PAGE.read_text("utf-8")
        before, rest = text.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n\n{END}{rest.split(END)[1]}", "utf-8")
    return 1 if differing or not results else 0


if __name__ == "__main__":
    sys.exit(main())

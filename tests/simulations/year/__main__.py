"""
A year of incidents in some minutes: the real healer, thousands of clusters that are models, and a clock set forward.

Not part of CI as a whole; tests/simulations/year/test_year.py runs a small one. `python -m tests.simulations.year
[CLUSTERS [INCIDENTS [SEED]]]` prints what came of it as Markdown; the exit code is 1 if anything was done or told
wrong, or lost. A year's incidents come within weeks, so that more of them meet than in life.
"""

import logging
import sys

from tests.simulations.year.report import report_page
from tests.simulations.year.run import run


def main(clusters: int = 10_000, incidents: int = 20_000, seed: int = 1) -> int:
    logging.disable(logging.CRITICAL)
    world, spent = run(clusters, incidents, seed)
    print(report_page(world, clusters, incidents, seed, spent))
    return int(bool(world.judge.wrongs))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))

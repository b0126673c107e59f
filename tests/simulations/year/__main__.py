"""
A year of incidents in minutes: the real healer, thousands of model clusters, and a simulated clock.

Too long for CI, where tests/simulations/year/test_year.py runs a small one. `python -m tests.simulations.year
[CLUSTERS [INCIDENTS [SEED]]]` prints a report as Markdown; the exit code is 1 after a wrong action, a wrong verdict or
a lost alert. A year's incidents come within weeks, so that more of them overlap than in production.
"""

import logging
import sys

from tests.simulations.terminations.act_statement import ActStatement
from tests.simulations.year.report import report_page
from tests.simulations.year.run import ALL_KINDS, run
from tests.support.servers.stack import Stack


def main(clusters: int = 10_000, incidents: int = 20_000, seed: int = 1) -> int:
    logging.disable(logging.CRITICAL)
    with Stack() as stack, ActStatement(stack.single().conninfo()) as statement:
        simulation, spent = run(clusters, incidents, seed, statement, ALL_KINDS)
    print(report_page(simulation, clusters, incidents, seed, spent))
    return int(bool(simulation.judge.mistakes or simulation.termination_judge.mistakes))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))

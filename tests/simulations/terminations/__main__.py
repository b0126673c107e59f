"""
Thousands of transactions that hold slots or seem to, in minutes: `python -m tests.simulations.terminations`.

Arguments: how many incidents, and a seed. Prints a report as Markdown; the exit code is 1 after a mistake.
"""

import logging
import sys

from tests.simulations.terminations.act_statement import ActStatement
from tests.simulations.terminations.incidents import KINDS
from tests.simulations.terminations.report import report
from tests.simulations.year.run import run
from tests.support.servers.stack import Stack


def main(incidents: int = 3000, seed: int = 1) -> int:
    logging.disable(logging.CRITICAL)
    with Stack() as stack, ActStatement(stack.single().conninfo()) as statement:
        simulation, spent = run(incidents, incidents, seed, statement, KINDS)
    print(report(simulation.termination_judge, spent))
    return int(bool(simulation.termination_judge.mistakes))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))

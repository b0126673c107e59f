"""
A day in a minute: `python -m tests.simulations.day --seed 17 --minutes 1`.

With `--plan` it prints what would happen, and nothing happens.

The exit code is 1 if an invariant did not hold. The same seed gives the same plan.
"""

import argparse
import sys
import time

from tests.simulations.day.plan import plan
from tests.simulations.day.run import run
from tests.support.servers.binaries import NEWEST


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--major", type=int, default=NEWEST, help="PostgreSQL's version: 17, 18 or 19")
    parser.add_argument("--plan", action="store_true", help="print the steps only")
    options = parser.parse_args()
    steps = plan(options.seed, options.minutes)
    if options.plan:
        print(*steps, sep="\n")
        return 0
    print(f"seed {options.seed}, {options.minutes:g} minutes, {len(steps)} steps: at, and as planned", flush=True)
    start = time.monotonic()
    day = run(steps, lambda at, text: print(f"{at:6.1f}  {text}", flush=True), major=options.major)
    checks = ", ".join(f"{count} {kind}" for kind, count in sorted(day.checks.items()))
    print(
        f"{day.made} slots made, the longest wait for a record alone {day.longest:.1f} s, {day.calls} calls,"
        f" {day.ended} sessions ended, {checks}"
    )
    print(f"{time.monotonic() - start:.0f} s in all")
    for violation in day.violations:
        print(f"VIOLATED with seed {options.seed}, after the step [{day.during}]: {violation}")
    if day.logs is not None:
        print(f"logs: {day.logs}")
    return int(bool(day.violations))


if __name__ == "__main__":
    sys.exit(main())

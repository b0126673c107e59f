"""
The judge on real servers of several versions at once: `python -m tests.simulations.terminations.servers`.

Options: --acts, of each version; --minutes, after which no scenario begins; --seed; --majors. Prints a table in
Markdown; the exit code is 1 after a mistake, or if a version has not come to its acts. Each version runs in a process
of its own.
"""

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import time
from typing import Any

from pgslot.snapshot.queries import SUPPORTED
from tests.simulations.terminations import judge
from tests.simulations.terminations.on_servers import run_scenarios
from tests.support.servers.stack import Stack

CONVICTIONS = {
    judge.NOT_THE_HOLDER: "not the holder",
    judge.UNPROVEN: "unproven",
    judge.NOT_ALLOWED: "not allowed",
    judge.FALSE_HEALED: "false healed",
    judge.UNTOLD: "untold",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--acts", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--majors", type=int, nargs="+", default=list(SUPPORTED))
    options = parser.parse_args()
    if len(options.majors) == 1:
        print(json.dumps(run(options.majors[0], options.acts, options.seed, options.minutes)))
        return 0
    children = {major: _start(major, options) for major in options.majors}
    printed = {major: child.communicate()[0] for major, child in children.items()}
    failed = [major for major, child in children.items() if child.returncode != 0]
    results = {major: json.loads(text.splitlines()[-1]) for major, text in printed.items() if major not in failed}
    print(table(results))
    if failed:
        # The traceback is on stderr.
        print(f"- no result: {', '.join(map(str, failed))}")
    short = [major for major, result in results.items() if sum(result["acts"].values()) < options.acts]
    if short:
        print(f"- not {options.acts} sessions ended within {options.minutes:g} minutes: {', '.join(map(str, short))}")
    return int(bool(failed or short) or any(result["mistakes"] for result in results.values()))


def run(major: int, acts: int, seed: int, minutes: float) -> dict[str, Any]:
    """Run the scenarios on one version; return what the judge says."""
    logging.disable(logging.CRITICAL)
    with Stack(major=major) as stack:
        stack.start_databases(max_slot_wal_keep_size="-1")
        judges = asyncio.run(run_scenarios(stack, acts, seed, time.monotonic() + minutes * 60))
    return {
        "scenarios": judges.scenarios,
        "acts": dict(judges.acts),
        "outcomes": dict(judges.outcomes),
        "refusals": {guard: count for guard, count in judges.refusals.items() if count},
        "without_act": dict(judges.without_act),
        "mistakes": dict(judges.mistakes),
        "details": judges.details,
    }


def table(results: dict[int, dict[str, Any]]) -> str:
    """Return the results by version as Markdown."""
    lines = [
        f"| PostgreSQL | scenarios | sessions ended | healed | {' | '.join(CONVICTIONS.values())} |",
        f"| --- | ---: | ---: | ---: | {' | '.join(['---:'] * len(CONVICTIONS))} |",
    ]
    for major, result in results.items():
        counts = " | ".join(str(result["mistakes"].get(what, 0)) for what in CONVICTIONS)
        ended = sum(result["acts"].values())
        healed = result["outcomes"].get("healed", 0)
        lines.append(f"| {major} | {result['scenarios']} | {ended} | {healed} | {counts} |")
    lines += ["", *(f"- {major}: {detail}" for major, result in results.items() for detail in result["details"])]
    for major, result in results.items():
        for what in ("acts", "outcomes", "refusals", "without_act"):
            counted = ", ".join(f"{name} {count}" for name, count in sorted(result[what].items()))
            lines.append(f"- {major}, {what.replace('_', ' ')}: {counted or 'none'}")
    return "\n".join(lines)


def _start(major: int, options: argparse.Namespace) -> "subprocess.Popen[str]":
    arguments = [f"--acts={options.acts}", f"--minutes={options.minutes}", f"--seed={options.seed + major}"]
    command = [sys.executable, "-m", "tests.simulations.terminations.servers", *arguments, f"--majors={major}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


if __name__ == "__main__":
    sys.exit(main())

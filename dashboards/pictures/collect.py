"""
Lets things happen on real servers for some minutes, and writes down what Grafana would ask for and get.

`python -m dashboards.pictures.collect data.json`; `draw.mjs` turns that into pictures.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.dashboard_scenes import Fleet
from tests.support.dashboards import DASHBOARDS
from tests.support.servers.sessions import OpenTransaction, Statement

MINUTES = 9
SCRAPE = 5
"""Seconds: Prometheus' scrape_interval here, and the data source's timeInterval."""
READ_EVERY = 25
"""Seconds between two reads of the failover slots' consumers."""
LAST_READ = 425
"""Seconds: early enough that the copies are in step when the synchronisation ends."""
SETTLING = 45
"""Seconds before the first scrape that the pictures show: rates then no longer cover the preparations."""


@dataclass(frozen=True)
class View:
    """A dashboard with its variables chosen."""

    board: str
    variables: dict[str, str]


VIEWS = (
    View("pgslot-fleet", {"cluster": ".+"}),
    View("pgslot-cluster", {"cluster": "billing", "node": ".+", "slot": ".+"}),
    View("pgslot-cluster", {"cluster": "orders", "node": ".+", "slot": ".+"}),
)


def main() -> None:
    file = Path(sys.argv[1])
    with Fleet() as fleet, ExitStack() as open_at_the_end:
        fleet.start_everything()
        fleet.scrape_every(f"{SCRAPE}s")
        fleet.make_failover_slots()
        fleet.lose_a_slot("ancient")
        time.sleep(SETTLING)
        start = time.time()
        live(fleet, start + MINUTES * 60, open_at_the_end)
        end = time.time()
        views = [seen(fleet, view, start, end) for view in VIEWS]
    file.write_text(json.dumps({"start": start, "end": end, "views": views}), "utf-8")


def live(fleet: Fleet, until: float, open_at_the_end: ExitStack) -> None:
    """
    Let a fleet work in which one cluster is in trouble and the healer acts on another.

    On orders the healer ends the first wait at once, and then a transaction. It ends the second wait as soon as the
    transaction in the way has ended. The third wait goes on until the contexts in `open_at_the_end` end.
    """
    began = time.time()
    fleet.consume("warehouse")
    fleet.unused_slot("forgotten")
    stuck: list[Statement] = []
    migrations: list[OpenTransaction] = []

    def commit() -> None:
        for migration in migrations:
            migration.commit()

    def hold(application_name: str, stack: ExitStack) -> OpenTransaction:
        return stack.enter_context(fleet.primary.hold_transaction(application_name))

    with ExitStack() as open_things:
        to_come: dict[int, Callable[[], object]] = {
            70: lambda: fleet.hold("nightly-report"),
            100: lambda: stuck.append(hang(fleet, open_things, "search")),
            130: lambda: fleet.create("audit"),
            200: fleet.end_transactions,
            265: fleet.end_transactions,
            310: lambda: migrations.append(hold("migration", open_things)),
            311: lambda: stuck.append(hang(fleet, open_things, "cdc")),
            420: commit,
            458: lambda: fleet.unready_failover_slot("wishlist"),
            461: lambda: fleet.primary.drop_slot("polled"),
            464: lambda: hold("backfill", open_at_the_end),
            465: lambda: hang(fleet, open_at_the_end, "loyalty"),
        }
        written = reads = 0.0
        while time.time() < until:
            passed = time.time() - began
            for at in [at for at in to_come if at < passed]:
                to_come.pop(at)()
            if stuck and stuck[0].done:
                open_things.pop_all().close()
                stuck.clear()
            fleet.insert(40 if int(passed) % 90 < 60 else 1500)
            fleet.order(20)
            # A read forces a record, which would end a wait in the healer's place.
            if passed >= reads * READ_EVERY and not stuck and passed < LAST_READ:
                fleet.read_failover_slots()
                reads += 1
            if passed * 0.17 > written:
                fleet.write(1)
                written += 1
            time.sleep(0.5)


def hang(fleet: Fleet, open_things: ExitStack, slot: str) -> Statement:
    """Begin a creation that hangs until the healer acts."""
    return open_things.enter_context(fleet.stuck_creation(slot))


def seen(fleet: Fleet, view: View, start: float, end: float) -> dict[str, Any]:
    """Return what Prometheus answers to each query of the dashboard."""
    board = DASHBOARDS[view.board]
    answers: dict[str, Any] = {}
    for panel in board["panels"]:
        step = max(SCRAPE, 60 if panel.get("interval") == "1m" else 0)
        for target in panel.get("targets", []):
            expr = chosen(target["expr"], view, step, end - start)
            key = f"{panel['id']}{target['refId']}"
            if target.get("instant"):
                answers[key] = fleet.prometheus.get("/api/v1/query", query=expr, time=str(end))["data"]["result"]
            else:
                answers[key] = fleet.prometheus.query_range(expr, start - start % step, end, step)
    marks = [
        {**annotation, "answer": fleet.prometheus.query_range(chosen(annotation["expr"], view, 15, 0), start, end, 15)}
        for annotation in board["annotations"]["list"]
    ]
    return {"board": view.board, "variables": view.variables, "answers": answers, "marks": marks}


def chosen(expr: str, view: View, step: float, span: float) -> str:
    """Put in what Grafana would."""
    rate_interval = max(step + SCRAPE, 4 * SCRAPE)
    for name, value in {"__rate_interval": f"{rate_interval}s", "__range": f"{int(span)}s", **view.variables}.items():
        expr = expr.replace(f"${name}", value)
    return expr


if __name__ == "__main__":
    main()

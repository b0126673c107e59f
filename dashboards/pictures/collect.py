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
"""Seconds: the data source's timeInterval; Prometheus scrapes each second here."""


@dataclass(frozen=True)
class View:
    """A dashboard with its variables chosen: one picture."""

    name: str
    board: str
    variables: dict[str, str]


VIEWS = (
    View("pgslot-fleet", "pgslot-fleet", {"cluster": ".+"}),
    View("pgslot-cluster-in-trouble", "pgslot-cluster", {"cluster": "billing", "node": ".+", "slot": ".+"}),
    View("pgslot-cluster-healed", "pgslot-cluster", {"cluster": "orders", "node": ".+", "slot": ".+"}),
)


def main() -> None:
    file = Path(sys.argv[1])
    with Fleet() as fleet:
        fleet.start_everything()
        fleet.lose_a_slot("ancient")
        start = time.time()
        live(fleet, start + MINUTES * 60)
        end = time.time()
        views = [seen(fleet, view, start, end) for view in VIEWS]
    file.write_text(json.dumps({"start": start, "end": end, "views": views}), "utf-8")


def live(fleet: Fleet, until: float) -> None:
    """A fleet of which one cluster is in trouble and one is healed, at once and after a transaction."""
    began = time.time()
    fleet.consume("warehouse")
    fleet.unused_slot("forgotten")
    stuck: list[Statement] = []
    migrations: list[OpenTransaction] = []

    def commit() -> None:
        for migration in migrations:
            migration.commit()

    with ExitStack() as open_things:
        to_come: dict[int, Callable[[], object]] = {
            70: lambda: fleet.hold("nightly-report"),
            100: lambda: stuck.append(hang(fleet, open_things, "search")),
            130: lambda: fleet.create("audit"),
            300: lambda: migrations.append(open_things.enter_context(fleet.primary.hold_transaction("migration"))),
            301: lambda: stuck.append(hang(fleet, open_things, "cdc")),
            420: commit,
        }
        written = 0.0
        while time.time() < until:
            passed = time.time() - began
            for at in [at for at in to_come if at < passed]:
                to_come.pop(at)()
            if stuck and stuck[0].done:
                open_things.pop_all().close()
                stuck.clear()
            fleet.insert(40 if int(passed) % 90 < 60 else 1500)
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
    return {"name": view.name, "board": view.board, "variables": view.variables, "answers": answers, "marks": marks}


def chosen(expr: str, view: View, step: float, span: float) -> str:
    """Put in what Grafana would."""
    rate_interval = max(step + SCRAPE, 4 * SCRAPE)
    for name, value in {"__rate_interval": f"{rate_interval}s", "__range": f"{int(span)}s", **view.variables}.items():
        expr = expr.replace(f"${name}", value)
    return expr


if __name__ == "__main__":
    main()

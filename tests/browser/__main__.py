"""
Runs both programs on real servers with hostile names, and has Chromium look at all of their pages (check.mjs).

A transaction blocks a creation on the primary, and its application_name is HTML that would open a dialog.
"""

import subprocess
import sys

import requests

from exporter.runbooks import runbook_names
from tests.bench.heal import CLUSTER, config
from tests.bench.programs import running
from tests.support.paths import ROOT
from tests.support.running_healer import alert
from tests.support.servers.processes import wait_for
from tests.support.servers.programs import Program
from tests.support.servers.stack import Stack

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
"""At most 63 bytes, as PostgreSQL keeps them."""
CHECK = ROOT / "tests/browser/check.mjs"
MODULES = ROOT / ".venv/browser"


def main() -> int:
    """Return the exit code of the check."""
    with Stack() as stack:
        stack.start_databases()
        configuration = config(stack)
        # A logical slot would wait for the transaction.
        stack.primary.sql("SELECT pg_catalog.pg_create_physical_replication_slot('idle', true)")
        with (
            running(stack, "pg-slot-exporter", {"clusters": configuration["clusters"]}) as exporter,
            running(stack, "pg-slot-healer", configuration) as healer,
            stack.primary.hold_transaction(HOSTILE),
            stack.primary.create_slot("blocked"),
        ):
            exporter.get("/metrics").raise_for_status()
            _start_episode(stack, healer)
            pages = [f"{healer.url}/", f"{healer.url}/slots/{CLUSTER}/blocked", f"{healer.url}/slots/{CLUSTER}/unknown"]
            pages += [exporter.url + "/", *_slot_pages(stack, exporter)]
            pages += [f"{exporter.url}/runbooks/{name}" for name in runbook_names()]
            return _look_at(pages)


def _slot_pages(stack: Stack, exporter: Program) -> list[str]:
    """Return the addresses of the page of the slot that waits, once it names the transaction, and of another slot's."""
    prefix = f"/slots/{CLUSTER}/{stack.primary.name}"
    wait_for(lambda: "&lt;script&gt;" in exporter.get(f"{prefix}/blocked").text, "the page names the transaction")
    return [f"{exporter.url}{prefix}/{name}" for name in ("blocked", "idle")]


def _start_episode(stack: Stack, healer: Program) -> None:
    """Have an episode that names the transaction in the way of a creation."""
    body = {"version": "4", "alerts": [alert("blocked", cluster=CLUSTER, node=stack.primary.name)]}
    requests.post(f"{healer.url}/alerts", json=body, timeout=30).raise_for_status()
    wait_for(lambda: "&lt;script&gt;" in healer.get("/").text, "the page names the transaction")


def _look_at(pages: list[str]) -> int:
    # The modules are beside a copy of the script, which finds them there.
    copy = MODULES / CHECK.name
    copy.write_text(CHECK.read_text("utf-8"), "utf-8")
    return subprocess.run(["node", copy, *pages], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

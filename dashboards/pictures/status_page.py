"""
Writes the healer's status page of a small incident on real servers, as a browser gets it.

`python -m dashboards.pictures.status_page page.html`; `draw.mjs` turns that into pictures.
"""

import asyncio
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from healer.commands.grants import ENDER_ROLE
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Node, TerminationConfig
from tests.support.blocking_transactions import POLICY, blocking_creation, endangered_alert, set_up_roles
from tests.support.fakes.alertmanager import fake_alertmanager
from tests.support.running_healer import QUICK, alert, healer_config, healing, to_primary
from tests.support.servers.stack import EXPORTER_ROLE, HEALER_ROLE, POWERLESS_ROLE, Stack

RUNBOOKS = "https://pgslot.example.com/runbooks"
RUNNING_SECONDS = 6.0
"""How long the running episode goes on before the page is taken: its calls are a second apart."""


async def status_page_of_an_incident() -> str:
    with Stack() as stack:
        await asyncio.to_thread(stack.start_databases)
        off = replace(
            cluster(stack, "archive", HEALER_ROLE, enabled=False),
            healer=healer_config(
                to_primary(stack.primary), enabled=False, disabled_reason="CHG-118, storage migration until Friday"
            ),
        )
        await asyncio.to_thread(set_up_roles, stack.primary)
        conninfo = Conninfo(to_primary(stack.primary, stack.standby, role=ENDER_ROLE))
        policy = replace(POLICY, at_most_per_hour=10)
        orders = cluster(stack, "orders", HEALER_ROLE, termination=TerminationConfig(conninfo, policy))
        clusters = (orders, cluster(stack, "billing", POWERLESS_ROLE), off)
        # It has just started, so that no alert ends because its list lacks it.
        started = datetime.now(UTC).isoformat()
        async with (
            fake_alertmanager("[]", started) as alertmanager_url,
            healing(
                *clusters, settings=replace(QUICK, burst_interval=1.0, alertmanager_url=alertmanager_url)
            ) as healer,
        ):
            with stack.quiet(), stack.standby.create_slot("electric_slot_default"):
                await healer.post(firing("orders", "electric_slot_default", "PgSlotCreationWaiting"))
                await healer.ended()
            with stack.quiet(), stack.standby.create_slot("debezium_billing"):
                await healer.post(firing("billing", "debezium_billing", "PgSlotCreationStuck"))
                await healer.ended()
            with blocking_creation(stack.primary, "peerdb_orders"):
                await healer.post(endangered_alert("peerdb_orders", "orders-1", cluster="orders"))
                await healer.ended()
            with (
                stack.primary.hold_transaction(application_name="nightly_report"),
                stack.standby.create_slot("airbyte_orders"),
            ):
                await healer.post(firing("orders", "airbyte_orders", "PgSlotCreationStuck"))
                await asyncio.sleep(RUNNING_SECONDS)
                page = await (await healer.client.get("/")).text()
        return page


def cluster(
    stack: Stack, name: str, role: str, *, enabled: bool = True, termination: TerminationConfig | None = None
) -> Cluster:
    servers = {f"{name}-1": stack.primary, f"{name}-2": stack.standby}
    nodes = tuple(Node(name, node, Conninfo(server.conninfo(EXPORTER_ROLE))) for node, server in servers.items())
    conninfo = to_primary(*servers.values(), role=role)
    return Cluster(name, nodes, healer_config(conninfo, enabled=enabled, termination=termination))


def firing(cluster_name: str, slot: str, alertname: str) -> dict[str, object]:
    sent = alert(slot, node=f"{cluster_name}-2", cluster=cluster_name)
    annotations = {"runbook_url": f"{RUNBOOKS}/{alertname}"}
    return sent | {"labels": sent["labels"] | {"alertname": alertname}, "annotations": annotations}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(asyncio.run(status_page_of_an_incident()), "utf-8")

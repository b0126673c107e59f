"""Fetches what a rehearsal needs beyond the snapshot of a cluster, from the nodes and from Patroni."""

import asyncio

from pgslot.config.model import Cluster, PatroniConfig
from pgslot.diagnosis.switchover_facts import PatroniSlots, SwitchoverFacts
from pgslot.patroni.client import NoAnswerError
from pgslot.patroni.slot_config import fetch_slot_config
from pgslot.snapshot.switchover import fetch_settings


async def fetch_switchover_facts(cluster: Cluster, application_name: str, timeout: float) -> SwitchoverFacts:
    """Ask all nodes, within `timeout` seconds, and Patroni. What gives no answer is in the facts, never raised."""
    settings, (patroni, error) = await asyncio.gather(
        fetch_settings(cluster, application_name, timeout), _patroni_slots(cluster.patroni)
    )
    return SwitchoverFacts(settings, patroni, error)


async def _patroni_slots(patroni: PatroniConfig | None) -> tuple[PatroniSlots | None, str]:
    if patroni is None:
        return None, ""
    try:
        return await fetch_slot_config(patroni), ""
    except NoAnswerError as error:
        return None, str(error)

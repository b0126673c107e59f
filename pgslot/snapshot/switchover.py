"""What a node shows that matters only once its role changes, beyond the queries of a scrape."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from pgslot.cli.errors import ConfigError
from pgslot.config.model import Cluster, Node
from pgslot.postgres.login import open_session
from pgslot.snapshot.failures import classify
from pgslot.snapshot.model import QueryStatus


@dataclass(frozen=True, slots=True)
class SwitchoverSettings:
    """One row: settings that count once the node is promoted, or demoted. Every role may read them."""

    max_wal_senders: int
    wal_senders: int
    """Walsenders that run now."""
    hot_standby_feedback: bool
    sync_replication_slots: bool | None
    """None before PostgreSQL 17."""
    primary_slot_name: str
    """Empty: not set. A primary may keep the setting from its time as a standby."""


SETTINGS = """
SELECT
  pg_catalog.current_setting('max_wal_senders')::int4 AS max_wal_senders,
  (SELECT count(*) FROM pg_catalog.pg_stat_get_wal_senders())::int4 AS wal_senders,
  pg_catalog.current_setting('hot_standby_feedback')::bool AS hot_standby_feedback,
  pg_catalog.current_setting('sync_replication_slots', true)::bool AS sync_replication_slots,
  pg_catalog.current_setting('primary_slot_name') AS primary_slot_name
"""

SettingsOrStatus = SwitchoverSettings | QueryStatus
"""The row, or how the query failed."""


async def fetch_settings(cluster: Cluster, application_name: str, timeout: float) -> Mapping[str, SettingsOrStatus]:
    """Return each node's row by the node's name; connects to all nodes at the same time, within `timeout` seconds."""
    rows = await asyncio.gather(*(_fetch(node, application_name, timeout) for node in cluster.nodes))
    return {node.name: row for node, row in zip(cluster.nodes, rows, strict=True)}


async def _fetch(node: Node, application_name: str, timeout: float) -> SettingsOrStatus:
    deadline = time.monotonic() + timeout
    connected = False
    try:
        session = await open_session(node.conninfo, application_name=application_name, timeout=timeout)
        connected = True
        try:
            [[row]] = await session.fetch([(SETTINGS, SwitchoverSettings)], max(0.1, deadline - time.monotonic()))
        finally:
            await session.close()
    except (psycopg.Error, OSError, ConfigError) as error:
        return classify(error, connected=connected)
    else:
        settings: SwitchoverSettings = row
        return settings

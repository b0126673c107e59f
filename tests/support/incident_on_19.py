"""The incident that needs PostgreSQL 19: slots of a standby depend on the last slot of the primary."""

import signal

import yaml

from tests.support.incidents import Incidents
from tests.support.servers.binaries import NEXT
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import EXPORTER_ROLE, Stack


def last_slot_on_primary(incidents: Incidents) -> None:
    """Add a second cluster with a slot on the standby and one on the primary, whose wal_level is replica."""
    stack = incidents.stack
    file = stack.folder / "pg-slot-exporter.yml"
    before = file.read_text("utf-8")
    config = yaml.safe_load(before)
    with Stack(major=NEXT) as second:
        second.start_databases(wal_level="replica")
        config["clusters"]["next"] = {
            "nodes": {
                server.name: {"conninfo": server.conninfo(EXPORTER_ROLE)} for server in (second.primary, second.standby)
            }
        }
        file.write_text(yaml.safe_dump(config), "utf-8")
        stack.exporter.process.send(signal.SIGHUP)
        second.primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('last', 'pgoutput')")
        second.make_slot_on_standby("at_stake")
        incidents.fires("PgSlotDependsOnLastSlot", "at_stake")
        second.primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('another', 'pgoutput')")
        incidents.ends("PgSlotDependsOnLastSlot")
        file.write_text(before, "utf-8")
        stack.exporter.process.send(signal.SIGHUP)
        wait_for(lambda: not stack.prometheus.query('pgslot_up{cluster="next"}'), "it is watched no more")

"""`grants --service`: run on imitations, as their administrator, who is not a superuser."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from healer.commands.grants import service_script
from healer.commands.service_notes import NOTES
from healer.remedies.attempt import Unavailable
from healer.remedies.connection import check_capability
from healer.remedies.force_snapshot.connection import RecordConnection
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import HealerConfig, Node
from pgslot.diagnosis.services import SERVICES
from pgslot.snapshot.model import QueryStatus
from pgslot.snapshot.node import NodeCollector
from tests.support.servers.postgres import Postgres, run_psql
from tests.support.servers.stack import Stack
from tests.support.services.imitation import Service, imitated
from tests.support.services.others import AZURE
from tests.support.services.rds import RDS

EXPORTER, HEALER = "service exporter", 'service "healer"'


@contextmanager
def administered(primary: Postgres, service: Service) -> Iterator[None]:
    """Let the service have an administrator, `service_admin`, and drop the roles that the SQL creates."""
    with imitated(primary, service):
        [role] = [role for role in service.roles if role.administers]
        primary.sql(f"CREATE ROLE service_admin LOGIN CREATEROLE IN ROLE {role.name}")
        try:
            yield
        finally:
            primary.sql(f'REVOKE pg_monitor FROM "service exporter" GRANTED BY {role.name} CASCADE')
            for name in ('"service exporter"', '"service ""healer"""', "service_admin"):
                primary.sql(f"DROP OWNED BY {name} CASCADE")
                primary.sql(f"DROP ROLE {name}")


@pytest.mark.parametrize("service", [RDS, AZURE], ids=lambda service: service.name)
async def test_script_works_as_the_administrator_and_says_what_cannot_be_granted(
    databases: Stack, service: Service
) -> None:
    primary = databases.primary
    with administered(primary, service):
        for _ in range(2):
            sql = service_script(service.name, EXPORTER, HEALER)
            output = run_psql(primary, f"SET SESSION AUTHORIZATION service_admin;\n{sql}")
            assert "Set fallback: emit_message in the healer's section" in output
        collector = NodeCollector(Node("c", "n", Conninfo(primary.conninfo("'service exporter'"))), "g", 60)
        try:
            assert set((await collector.collect(10)).all_statuses.values()) == {QueryStatus.OK}
        finally:
            await collector.close()
        healer = Conninfo(primary.conninfo("'service \"healer\"'"))
        capability = await check_capability(HealerConfig(healer, enabled=True, dry_run=False), RecordConnection)
        assert capability.reason is Unavailable.MISSING_PRIVILEGE


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_script_names_the_service_and_leaves_no_placeholder(service: object) -> None:
    name = str(getattr(service, "name", ""))
    sql = service_script(name, "e:name", "h")
    assert f"grants --service={name} |" in sql
    assert all(note in sql for note in NOTES[name])
    assert '"e:name"' in sql
    assert not any(word in sql for word in (":service", ":administrator", ":notes", ':"', ":'"))

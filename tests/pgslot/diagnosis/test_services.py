"""Which managed service a server belongs to, by its signs; and on real servers that have them."""

from dataclasses import replace

import pytest

from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Node
from pgslot.diagnosis.services import administrator, recognised_services, service_names, service_titles
from pgslot.snapshot.model import NodeSnapshot, QueryStatus
from pgslot.snapshot.node import NodeCollector
from pgslot.snapshot.queries import QUERIES
from pgslot.snapshot.service_signs import ServiceSigns
from tests.support.servers.stack import EXPORTER_ROLE, Stack
from tests.support.services.imitation import Service, imitated
from tests.support.services.others import ALLOYDB, AZURE, CLOUD_SQL, NEON, SUPABASE
from tests.support.services.rds import RDS

NOTHING = ServiceSigns([], [], [], aurora_processes=False)
SNAPSHOT = NodeSnapshot("c", "n", 0.1, {})


@pytest.mark.parametrize(
    ("signs", "names", "as_whom"),
    [
        (NOTHING, "", "a superuser"),
        (replace(NOTHING, roles=["rds_superuser", "rdsadmin"]), "rds", "a member of rds_superuser"),
        (replace(NOTHING, settings=["rds.logical_replication"]), "rds", "a member of rds_superuser"),
        (
            replace(NOTHING, roles=["rds_superuser"], functions=["aurora_version"]),
            "aurora",
            "a member of rds_superuser",
        ),
        (replace(NOTHING, roles=["rds_superuser"], aurora_processes=True), "aurora", "a member of rds_superuser"),
        (replace(NOTHING, settings=["cloudsql.logical_decoding"]), "cloudsql", "a member of cloudsqlsuperuser"),
        (replace(NOTHING, roles=["alloydbsuperuser"]), "alloydb", "a member of alloydbsuperuser"),
        (replace(NOTHING, roles=["azure_pg_admin"]), "azure", "a member of azure_pg_admin"),
        (replace(NOTHING, roles=["supabase_admin"]), "supabase", "postgres"),
        (replace(NOTHING, roles=["neon_superuser"]), "neon", "a member of neon_superuser"),
        # A dump of one service on a server of another.
        (replace(NOTHING, roles=["rds_superuser", "supabase_admin"]), "rds,supabase", None),
    ],
)
def test_service_is_recognised_by_its_signs(signs: ServiceSigns, names: str, as_whom: str | None) -> None:
    node = replace(SNAPSHOT, service_signs=signs)
    assert service_names(node) == names
    assert (service_titles(node) == "") == (names == "")
    assert as_whom is None or administrator(node) == as_whom
    assert len(recognised_services(signs)) == (names.count(",") + 1 if names else 0)


def test_signs_that_were_not_shown_are_unknown() -> None:
    assert (service_names(SNAPSHOT), service_titles(SNAPSHOT)) == ("unknown", "")
    assert administrator(None) == "a superuser"


@pytest.mark.parametrize("service", [RDS, CLOUD_SQL, ALLOYDB, AZURE, SUPABASE, NEON], ids=lambda service: service.name)
async def test_imitated_service_is_recognised_and_every_query_answers(databases: Stack, service: Service) -> None:
    """Nobody is superuser there; the exporter's role needs none."""
    with imitated(databases.primary, service):
        collector = NodeCollector(
            Node("c", "n", Conninfo(databases.primary.conninfo(EXPORTER_ROLE))), "services", listing_interval=60
        )
        try:
            snapshot = await collector.collect(10)
        finally:
            await collector.close()
        assert service_names(snapshot) == service.name
        assert {query.name for query in QUERIES} <= snapshot.all_statuses.keys()
        assert set(snapshot.all_statuses.values()) == {QueryStatus.OK}


@pytest.mark.parametrize("service", [RDS, AZURE], ids=lambda service: service.name)
async def test_service_administrator_can_grant_what_doctor_advises(databases: Stack, service: Service) -> None:
    """`GRANT pg_monitor` as a member of the service's role, as its dumps show that it may."""
    primary = databases.primary
    with imitated(primary, service):
        [role] = [role for role in service.roles if role.administers]
        primary.sql(f"CREATE ROLE service_admin LOGIN CREATEROLE IN ROLE {role.name}")
        primary.sql("CREATE ROLE monitored LOGIN")
        try:
            primary.sql_in_one_transaction("SET SESSION AUTHORIZATION service_admin", "GRANT pg_monitor TO monitored")
            collector = NodeCollector(Node("c", "n", Conninfo(primary.conninfo("monitored"))), "s", listing_interval=60)
            try:
                snapshot = await collector.collect(10)
            finally:
                await collector.close()
            assert set(snapshot.all_statuses.values()) == {QueryStatus.OK}
            assert administrator(snapshot) == f"a member of {role.name}"
        finally:
            primary.sql("REVOKE pg_monitor FROM monitored GRANTED BY " + role.name + " CASCADE")
            primary.sql("DROP ROLE monitored")
            primary.sql("DROP ROLE service_admin")

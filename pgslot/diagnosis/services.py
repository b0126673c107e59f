"""
Which managed service a server belongs to: a pure function of what an ordinary PostgreSQL does not have.

A sign is not a proof: a role of that name may come from a dump that was restored on another server. So several services
are possible. None is a server of one's own, or a service without a sign that is known, such as Crunchy Bridge.
"""

from dataclasses import dataclass

from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.service_signs import ServiceSigns


@dataclass(frozen=True, slots=True)
class ManagedService:
    """A service, and what its servers have."""

    name: str
    """The value of the label `service`."""
    title: str
    administrator: str
    """The role whose members administer a server there, as nobody is superuser."""
    roles: frozenset[str] = frozenset()
    """One of them is enough, as for functions and settings."""
    functions: frozenset[str] = frozenset()
    settings: frozenset[str] = frozenset()


RDS = ManagedService(
    "rds",
    "Amazon RDS",
    "rds_superuser",
    frozenset({"rds_superuser", "rdsadmin"}),
    settings=frozenset({"rds.logical_replication"}),
)
AURORA = ManagedService(
    "aurora",
    "Amazon Aurora",
    "rds_superuser",
    functions=frozenset({"aurora_version", "aurora_replica_status", "aurora_stat_logical_wal_cache"}),
)
SERVICES = (
    AURORA,
    RDS,
    ManagedService(
        "cloudsql",
        "Google Cloud SQL",
        "cloudsqlsuperuser",
        frozenset({"cloudsqlsuperuser"}),
        settings=frozenset({"cloudsql.logical_decoding"}),
    ),
    ManagedService("alloydb", "Google AlloyDB", "alloydbsuperuser", frozenset({"alloydbsuperuser"})),
    ManagedService("azure", "Azure Database for PostgreSQL", "azure_pg_admin", frozenset({"azure_pg_admin"})),
    ManagedService("supabase", "Supabase", "postgres", frozenset({"supabase_admin"})),
    ManagedService("neon", "Neon", "neon_superuser", frozenset({"neon_superuser"})),
)

UNKNOWN = "unknown"
"""In place of a service's name: the server did not show its signs."""


def recognised_services(signs: ServiceSigns) -> tuple[ManagedService, ...]:
    """Return the services whose signs a server has, in the order of SERVICES; empty: none that is known."""
    found = tuple(service for service in SERVICES if _has_signs(service, signs))
    # Aurora has all that RDS has.
    return tuple(service for service in found if service is not RDS) if AURORA in found else found


def service_names(node: NodeSnapshot) -> str:
    """Return the names with commas between them; empty: none that is known; UNKNOWN: the signs are not known."""
    if node.service_signs is None:
        return UNKNOWN
    return ",".join(service.name for service in recognised_services(node.service_signs))


def service_titles(node: NodeSnapshot) -> str:
    """Return the names for people, `Amazon RDS or Supabase`; empty: none that is known, or it is not known."""
    signs = node.service_signs
    return "" if signs is None else " or ".join(service.title for service in recognised_services(signs))


def administrator(node: NodeSnapshot | None) -> str:
    """Return as whom to run what needs privileges on this server: `a superuser`, or the service's own role."""
    signs = None if node is None else node.service_signs
    services = () if signs is None else recognised_services(signs)
    roles = dict.fromkeys(service.administrator for service in services)
    return " or ".join(f"a member of {role}" if role != "postgres" else "postgres" for role in roles) or "a superuser"


def _has_signs(service: ManagedService, signs: ServiceSigns) -> bool:
    return (
        not service.roles.isdisjoint(signs.roles)
        or not service.functions.isdisjoint(signs.functions)
        or not service.settings.isdisjoint(signs.settings)
        or (service is AURORA and signs.aurora_processes)
    )

"""Services that are ordinary servers but for their roles, as far as any source shows."""

from tests.support.services.imitation import Role, Service

CLOUD_SQL = Service(
    "cloudsql",
    roles=(
        Role(
            "cloudsqlsuperuser",
            "a dump of Cloud SQL 14.7: pg_monitor and pg_signal_backend TO cloudsqlsuperuser, no ADMIN OPTION",
            memberships=("pg_monitor", "pg_signal_backend"),
            options="CREATEROLE CREATEDB",
            administers=True,
        ),
    ),
)
AZURE = Service(
    "azure",
    roles=(
        Role(
            "azure_pg_admin",
            "a dump of Azure Flexible Server: these four TO azure_pg_admin WITH ADMIN OPTION",
            memberships=("pg_monitor", "pg_read_all_stats", "pg_signal_backend", "pg_stat_scan_tables"),
            with_admin=True,
            options="CREATEROLE CREATEDB",
            administers=True,
        ),
    ),
)
SUPABASE = Service(
    "supabase",
    # In dumps, `postgres` has pg_monitor and others WITH ADMIN OPTION, granted by supabase_admin.
    roles=(Role("supabase_admin", "dumps of Supabase: GRANTED BY supabase_admin", options="SUPERUSER"),),
)
NEON = Service(
    "neon",
    roles=(
        Role(
            "neon_superuser",
            "neondatabase/neon#8346, migration 0009: EXECUTE on pg_log_standby_snapshot() from 16 on",
            options="CREATEROLE CREATEDB BYPASSRLS REPLICATION",
            administers=True,
        ),
    ),
)
ALLOYDB = Service("alloydb", roles=(Role("alloydbsuperuser", "Google's documentation of AlloyDB", administers=True),))

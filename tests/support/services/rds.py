"""Amazon RDS for PostgreSQL: an ordinary server, whose administrator is a member of rds_superuser and no superuser."""

from tests.support.services.imitation import Role, Service

RDS_ROLES = (
    Role(
        "rds_superuser",
        "a dump of RDS 16: GRANT pg_monitor, pg_signal_backend, pg_read_all_data ... WITH ADMIN OPTION, INHERIT TRUE",
        memberships=("pg_monitor", "pg_signal_backend", "pg_read_all_data", "pg_use_reserved_connections"),
        with_admin=True,
        administers=True,
        options="CREATEROLE CREATEDB",
    ),
    Role("rds_replication", "AWS documentation of RDS, logical replication: GRANT rds_replication TO the role"),
    # RDS gives nobody else the name; without LOGIN here, as nobody logs in as it.
    Role("rdsadmin", "AWS documentation of RDS: the superuser of the service's own processes", options="NOLOGIN"),
)

RDS = Service("rds", roles=RDS_ROLES)

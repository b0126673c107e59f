"""The rows of the queries that only `preflight` asks, with the columns of their .sql files in the same order."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PreflightServer:
    """preflight.sql, for a user, a database and a plugin: always one row."""

    session_user: str
    """Whom the connection string logs in."""
    usename: str
    datname: str
    user_exists: bool
    user_may_login: bool | None
    """LOGIN. None: there is no such role."""
    user_replicates: bool | None
    """The user has the attribute REPLICATION, or is a superuser. None: there is no such role."""
    user_in_rds_replication: bool
    """The user is a member of rds_replication, which Amazon RDS has in place of the attribute."""
    has_rds_replication: bool
    """The server has a role of that name."""
    database_connectable: bool | None
    """datallowconn. None: there is no such database."""
    user_may_connect: bool | None
    """The user has CONNECT. None: the role or the database does not exist."""
    lock_timeout_seconds: float | None
    """What a session of the user in the database gets; 0: no limit. None: not known."""
    statement_timeout_seconds: float | None
    """As lock_timeout_seconds."""
    max_wal_senders: int
    wal_senders: int
    """Walsenders that run now."""
    plugin_in_use: bool
    """A slot of the server has this plugin."""
    reads_libraries: bool
    """Our role may ask preflight_library.sql."""
    may_force_record: bool | None
    """Our role may call pg_log_standby_snapshot() in this database. None: PostgreSQL 15 or older."""
    user_may_force_record: bool | None
    """The user may. None: also if the role does not exist."""
    may_force_records: list[str]
    """The first roles that may, by the function's privileges in this database; superusers may as well."""
    xid_holders: list[int]
    """Processes whose transaction has an xid, at most 100; 0: one or more prepared transactions. Empty on a standby."""
    upstream: str | None
    """HOST:PORT that a standby streams from. None: a primary, no WAL receiver, or no privilege to see it."""


@dataclass(frozen=True, slots=True)
class PreflightLibrary:
    """preflight_library.sql, for a plugin: one row."""

    folder: str
    """pkglibdir."""
    found: bool
    """The folder has a library of the plugin's name."""
    only_folder: bool
    """dynamic_library_path names no other folder."""


@dataclass(frozen=True, slots=True)
class PreflightPublication:
    """preflight_publication.sql, for a publication, in its database: always one row. Names are quoted as in SQL."""

    exists: bool
    publications: list[str]
    """The first ten of the database, by name, unquoted."""
    needs_identity: bool
    """It publishes UPDATE or DELETE."""
    all_tables: bool
    table_count: int
    unidentified_count: int
    """Tables and partitions without a replica identity."""
    unidentified: list[str]
    """The first ten of them."""
    heartbeats: list[str]
    """Published tables whose name contains `heartbeat`, at most five."""
    unpublished_heartbeats: list[str]
    """The same of tables that the publication does not have."""

"""What a service does differently, and how a real server is made to do it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for


@dataclass(frozen=True)
class RefusedFunction:
    """A function of pg_catalog that the service has and refuses to run."""

    name: str
    source: str
    """Where somebody saw it."""
    message: str
    """What the service says."""
    arguments: str = ""
    """Its parameters, with OUT for columns."""
    returns: str = "pg_lsn"
    sqlstate: str = "0A000"


@dataclass(frozen=True)
class Role:
    """A role that every server of the service has."""

    name: str
    source: str
    memberships: tuple[str, ...] = ()
    """Predefined roles that it is a member of."""
    options: str = ""
    """Attributes."""
    with_admin: bool = False
    """It may grant these memberships on."""
    administers: bool = False
    """People administer a server as a member of this role: nobody is superuser."""


@dataclass(frozen=True)
class Service:
    """An imitation."""

    name: str
    functions: tuple[RefusedFunction, ...] = ()
    roles: tuple[Role, ...] = ()
    own_functions: tuple[tuple[str, str], ...] = ()
    """Names of functions of its own, without arguments, and the source."""


@contextmanager
def imitated(primary: Postgres, service: Service, *standbys: Postgres) -> Iterator[None]:
    """Let a primary and its standbys, which replay it, act as servers of the service within the context."""
    functions = [function for function in service.functions if _exists(primary, function)]
    try:
        _make(primary, service, functions)
        for standby in standbys:
            wait_for(partial(_has_last, standby, service), f"{standby.name} imitates {service.name}")
        yield
    finally:
        _undo(primary, service, functions)


def _make(primary: Postgres, service: Service, functions: list[RefusedFunction]) -> None:
    for function in functions:
        primary.sql_in_one_transaction(*_refuse(function))
    for name, _ in service.own_functions:
        primary.sql(f"CREATE FUNCTION pg_catalog.{name}() RETURNS text LANGUAGE sql AS 'SELECT NULL::text'")
    for role in service.roles:
        _create(primary, role)


def _undo(primary: Postgres, service: Service, functions: list[RefusedFunction]) -> None:
    """Undo what was made, also if not all of it was."""
    for role in service.roles:
        if primary.sql("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s", [role.name]):
            primary.sql(f"DROP OWNED BY {role.name} CASCADE")
            primary.sql(f"DROP ROLE {role.name}")
    for name, _ in service.own_functions:
        primary.sql(f"DROP FUNCTION IF EXISTS pg_catalog.{name}()")
    for function in functions:
        if primary.sql("SELECT 1 FROM pg_catalog.pg_proc WHERE proname = %s", [f"{function.name}_builtin"]):
            primary.sql_in_one_transaction(
                f"DROP FUNCTION pg_catalog.{function.name}",
                f"ALTER FUNCTION pg_catalog.{function.name}_builtin RENAME TO {function.name}",
            )


def _has_last(server: Postgres, service: Service) -> bool:
    """Return whether the server has the last thing that an imitation makes, by which a standby has replayed all."""
    return bool(server.sql("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s", [service.roles[-1].name]))


def _exists(server: Postgres, function: RefusedFunction) -> bool:
    return bool(server.sql("SELECT 1 FROM pg_catalog.pg_proc WHERE proname = %s", [function.name]))


def _refuse(function: RefusedFunction) -> tuple[str, str]:
    """
    Return the statements that put a function that raises in place of the built-in one.

    The server calls a built-in function by its OID, whatever its body is replaced by: so it gets another name.
    """
    message = function.message.replace("'", "''")
    return (
        f"ALTER FUNCTION pg_catalog.{function.name} RENAME TO {function.name}_builtin",
        f"CREATE FUNCTION pg_catalog.{function.name}({function.arguments}) RETURNS {function.returns}"
        " LANGUAGE plpgsql AS $refuse$ BEGIN"
        f" RAISE EXCEPTION USING ERRCODE = '{function.sqlstate}', MESSAGE = '{message}';"
        " END $refuse$",
    )


def _create(server: Postgres, role: Role) -> None:
    server.sql(f"CREATE ROLE {role.name} {role.options}")
    for membership in role.memberships:
        if server.sql("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s", [membership]):
            option = " WITH ADMIN OPTION" if role.with_admin else ""
            server.sql(f"GRANT {membership} TO {role.name}{option}")

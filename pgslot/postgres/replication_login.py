"""Whether a server lets a user in as a consumer connects: a replication connection, which is closed at once."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum

import psycopg
from psycopg.conninfo import make_conninfo

from pgslot.postgres.connect import connect, password_refused, server_answered


class LoginOutcome(StrEnum):
    """How the attempt ended."""

    ADMITTED = "admitted"
    REFUSED = "refused"
    PASSWORD = "password"  # noqa: S105
    """The server asks for a password, and there was none, or a wrong one."""
    UNREACHABLE = "unreachable"
    """The server did not answer."""
    NOT_TRIED = "not_tried"


@dataclass(frozen=True, slots=True)
class ReplicationLogin:
    """One attempt."""

    outcome: LoginOutcome
    error: str = ""
    """The server's or libpq's message. Empty: admitted, or not tried."""


NOT_TRIED = ReplicationLogin(LoginOutcome.NOT_TRIED)


async def try_login(
    conninfo: str, *, user: str, database: str, own: bool, application_name: str, timeout: float
) -> ReplicationLogin:
    """
    Connect as this user for replication from this database, ask IDENTIFY_SYSTEM, and disconnect, within `timeout` s.

    `own`: the conninfo is this user's. For another user its password is not sent: only a passfile may have one.
    """
    parameters = {"user": user, "dbname": database, "replication": "database"} | ({} if own else {"password": ""})
    target = make_conninfo(conninfo, **parameters)
    try:
        async with asyncio.timeout(timeout + 0.5):
            connection = await connect(target, timeout, fallback_application_name=application_name)
            try:
                await connection.execute("IDENTIFY_SYSTEM")
            finally:
                await connection.close()
    except (psycopg.Error, TimeoutError) as error:
        text = " ".join(str(error).split()) or "no answer"
        if password_refused(text):
            return ReplicationLogin(LoginOutcome.PASSWORD, text)
        refused = server_answered(text) and not isinstance(error, TimeoutError)
        return ReplicationLogin(LoginOutcome.REFUSED if refused else LoginOutcome.UNREACHABLE, text)
    return ReplicationLogin(LoginOutcome.ADMITTED)

"""What a creation of a logical slot would meet on one server, beyond the queries of a scrape. Nothing is created."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import psycopg

from pgslot.cli.errors import ConfigError
from pgslot.config.conninfo import Conninfo
from pgslot.postgres.login import connection_string, open_session
from pgslot.postgres.pipeline import Statement
from pgslot.postgres.replication_login import NOT_TRIED, LoginOutcome, ReplicationLogin, try_login
from pgslot.postgres.session import Session
from pgslot.snapshot.failures import classify
from pgslot.snapshot.model import QueryStatus
from pgslot.snapshot.preflight_rows import PreflightLibrary, PreflightPublication, PreflightServer
from pgslot.snapshot.queries import PREFLIGHT, PREFLIGHT_LIBRARY, PREFLIGHT_PUBLICATION, Query


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """The slot that somebody means to create."""

    database: str = ""
    """Empty: that of the connection string."""
    user: str = ""
    """Empty: that of the connection string."""
    plugin: str = "pgoutput"
    publication: str | None = None
    """None: not given, and nothing is said of one."""
    slot: str | None = None
    """Its name. None: not given."""


@dataclass(frozen=True, slots=True)
class PreflightFacts:
    """What one server showed. In place of a row: how its query failed; None: it was not asked."""

    server: PreflightServer | QueryStatus
    library: PreflightLibrary | QueryStatus | None = None
    publication: PreflightPublication | QueryStatus | None = None
    login: ReplicationLogin = NOT_TRIED


async def fetch_preflight(
    conninfo: Conninfo, request: SlotRequest, *, application_name: str, timeout: float, login: bool
) -> PreflightFacts:
    """Ask the server, and with `login` try a replication connection of the user; `timeout` seconds for all of it."""
    asked = _Asked(conninfo, request, application_name, time.monotonic() + timeout)
    server = await asked.server()
    if isinstance(server, QueryStatus):
        return PreflightFacts(server)
    publication, attempt = await asyncio.gather(asked.publication(server), asked.login(server, wanted=login))
    return PreflightFacts(server, asked.library, publication, attempt)


async def fetch_server(
    conninfo: Conninfo, request: SlotRequest, *, application_name: str, timeout: float
) -> PreflightServer | QueryStatus:
    """Ask another server of the cluster, such as the primary above a standby, for preflight.sql alone."""
    return await _Asked(conninfo, request, application_name, time.monotonic() + timeout).server(with_library=False)


class _Asked:
    """The questions to one server, with one deadline."""

    def __init__(self, conninfo: Conninfo, request: SlotRequest, application_name: str, deadline: float) -> None:
        self._conninfo = conninfo
        self._request = request
        self._application_name = application_name
        self._deadline = deadline
        self.library: PreflightLibrary | QueryStatus | None = None

    @property
    def _remaining(self) -> float:
        return max(0.1, self._deadline - time.monotonic())

    async def server(self, *, with_library: bool = True) -> PreflightServer | QueryStatus:
        """Ask preflight.sql, and for the plugin's library if the role may."""
        parameters = (self._request.user, self._request.database, self._request.plugin)
        session = await self._connect()
        if isinstance(session, QueryStatus):
            return session
        try:
            row = await self._ask(session, PREFLIGHT, parameters)
            if with_library and isinstance(row, PreflightServer) and row.reads_libraries:
                self.library = await self._ask(session, PREFLIGHT_LIBRARY, (self._request.plugin,))
        finally:
            await session.close()
        answer: PreflightServer | QueryStatus = row
        return answer

    async def publication(self, server: PreflightServer) -> PreflightPublication | QueryStatus | None:
        """Ask for the publication in its database; None: none was given, or the database does not exist."""
        if self._request.publication is None or server.database_connectable is None:
            return None
        session = await self._connect(dbname=server.datname)
        if isinstance(session, QueryStatus):
            return session
        try:
            row: PreflightPublication | QueryStatus = await self._ask(
                session, PREFLIGHT_PUBLICATION, (self._request.publication,)
            )
            return row
        finally:
            await session.close()

    async def login(self, server: PreflightServer, *, wanted: bool) -> ReplicationLogin:
        replicates = server.user_replicates or server.user_in_rds_replication
        if not (
            wanted and replicates and server.user_may_login and server.user_may_connect and server.database_connectable
        ):
            return NOT_TRIED
        try:
            conninfo = await connection_string(self._conninfo, self._remaining)
        except (ConfigError, TimeoutError) as error:
            return ReplicationLogin(LoginOutcome.UNREACHABLE, str(error))
        return await try_login(
            conninfo,
            user=server.usename,
            database=server.datname,
            own=not self._request.user or self._request.user == server.session_user,
            application_name=self._application_name,
            timeout=self._remaining,
        )

    async def _connect(self, **parameters: str) -> Session | QueryStatus:
        try:
            return await open_session(
                self._conninfo, application_name=self._application_name, timeout=self._remaining, **parameters
            )
        except (psycopg.Error, OSError, ConfigError) as error:
            return classify(error, connected=False)

    async def _ask(self, session: Session, query: Query, parameters: tuple[str, ...]) -> Any:
        """Return the query's row, or how it failed."""
        try:
            [[row]] = await session.fetch([Statement(query.sql(session.major), query.row, parameters)], self._remaining)
        except (psycopg.Error, OSError) as error:
            return classify(error, connected=True)
        return row

"""What the doctor asks a server, beyond the exporter's probes."""

import time
from dataclasses import dataclass

import psycopg

from healer.remedies.attempt import APPLICATION_NAME
from healer.remedies.connection import TIMEOUT
from pgslot.cli.errors import ConfigError
from pgslot.config.conninfo import Conninfo
from pgslot.postgres.session import Session
from pgslot.snapshot.identity import IDENTITY, Identity


class ServerQueryError(Exception):
    """There was no answer. The text says why, without a password: libpq's messages have none."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """One row, as the session's role sees it."""

    in_recovery: bool
    version: str
    version_num: int
    role: str
    database: str
    superuser: bool
    wal_level: str
    """The one in effect, which PostgreSQL 19 raises with the first logical slot."""
    hot_standby_feedback: bool
    primary_slot_name: str
    """Empty: none."""


_FACTS = """
SELECT
  pg_catalog.pg_is_in_recovery() AS in_recovery,
  pg_catalog.split_part(pg_catalog.current_setting('server_version'), ' ', 1) AS version,
  pg_catalog.current_setting('server_version_num')::int4 AS version_num,
  current_user::text AS role,
  pg_catalog.current_database()::text AS database,
  pg_catalog.current_setting('is_superuser')::bool AS superuser,
  coalesce(
    pg_catalog.current_setting('effective_wal_level', true), pg_catalog.current_setting('wal_level')
  ) AS wal_level,
  pg_catalog.current_setting('hot_standby_feedback')::bool AS hot_standby_feedback,
  pg_catalog.current_setting('primary_slot_name') AS primary_slot_name
"""


@dataclass(frozen=True, slots=True)
class Server:
    """One server, and which cluster of servers it belongs to."""

    facts: ServerFacts
    system_identifier: str | None
    """Made by initdb, the same on a primary and its standbys. None: the role may not read it."""


async def fetch_server(conninfo: Conninfo) -> Server:
    """Connect, ask and leave, within TIMEOUT seconds. Raises InquiryError."""
    deadline = time.monotonic() + TIMEOUT
    try:
        session = await Session.connect(conninfo.read(), application_name=APPLICATION_NAME, timeout=TIMEOUT)
        try:
            [[facts]] = await session.fetch([(_FACTS, ServerFacts)], max(0.1, deadline - time.monotonic()))
            return Server(facts, await _identifier(session, max(0.1, deadline - time.monotonic())))
        finally:
            await session.close()
    except TimeoutError:
        raise ServerQueryError(f"no answer within {TIMEOUT:.0f} s") from None
    except (psycopg.Error, ConfigError) as error:
        raise ServerQueryError(" ".join(str(error).split())) from None


async def _identifier(session: Session, timeout: float) -> str | None:
    try:
        [[identity]] = await session.fetch([(IDENTITY, Identity)], timeout)
    except psycopg.errors.InsufficientPrivilege:
        return None
    return str(identity.system_identifier)

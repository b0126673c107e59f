"""The one connection to a node that is kept between collections, and renewed before its password ends."""

import time

import psycopg

from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import get_logger
from pgslot.config.model import Node
from pgslot.postgres.login import open_session
from pgslot.postgres.session import Session
from pgslot.snapshot.deadlines import RENEWAL_SECONDS
from pgslot.snapshot.failures import FailureLog, classify
from pgslot.snapshot.questions import remaining

log = get_logger(__name__)

_RENEWAL = "renewal"
"""The name under which a failed renewal is logged."""


class NodeConnection:
    """The kept connection; `session` is None while there is none."""

    def __init__(self, node: Node, application_name: str, failures: FailureLog) -> None:
        self._node = node
        self._application_name = application_name
        self._failures = failures
        self.session: Session | None = None

    @property
    def open(self) -> bool:
        """There is a kept connection, as far as is known."""
        return self.session is not None and not self.session.closed

    async def connect(self, deadline: float) -> Session:
        """
        Return the kept connection, or a new one if there is none, until this monotonic time.

        Raises psycopg.Error, ConfigError, TimeoutError.
        """
        if self.session is not None and not self.session.closed:
            if self.session.renew_at is None or time.monotonic() < self.session.renew_at:
                return self.session
            return await self._renewed(self.session, deadline)
        await self.disconnect()
        self.session = await self._new(remaining(deadline))
        return self.session

    async def disconnect(self) -> None:
        """Close the kept connection, if there is one."""
        if self.session is not None:
            await self.session.close()
            self.session = None

    async def _renewed(self, kept: Session, deadline: float) -> Session:
        """Return a new connection in place of the kept one, or that one if there is none in half of the time."""
        try:
            self.session = await self._new(remaining(deadline) / 2)
        except (psycopg.Error, OSError, ConfigError) as error:
            # It serves until the server ends it. A scrape is not lost for a password that is not needed yet.
            kept.renew_at = time.monotonic() + RENEWAL_SECONDS
            self._failures.failed(classify(error, connected=False), str(error), _RENEWAL)
            return kept
        self._failures.works_again(_RENEWAL, "the connection was renewed")
        await kept.close()
        return self.session

    async def _new(self, timeout: float) -> Session:
        session = await open_session(self._node.conninfo, application_name=self._application_name, timeout=timeout)
        log.debug("connected", cluster=self._node.cluster, node=self._node.name)
        return session

"""How a query failed, and one line in the log for each change of that."""

import psycopg

from pgslot.cli.logging import get_logger
from pgslot.config.model import Node
from pgslot.postgres.connect import LoginFailedError
from pgslot.snapshot.model import QueryStatus

# Users filter the lines about a node by this name.
log = get_logger("pgslot.snapshot.node")

_UNSUPPORTED = (
    psycopg.errors.UndefinedFunction
    | psycopg.errors.UndefinedColumn
    | psycopg.errors.UndefinedTable
    # Some services have a function and refuse to run it.
    | psycopg.errors.FeatureNotSupported
)


def classify(error: Exception, *, connected: bool) -> QueryStatus:
    """Return the status of a query that failed with this error; `connected`: the session outlived it."""
    if isinstance(error, TimeoutError | psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
        return QueryStatus.TIMEOUT
    if isinstance(error, LoginFailedError):
        return QueryStatus.LOGIN_FAILED
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return QueryStatus.PERMISSION_DENIED
    if isinstance(error, _UNSUPPORTED):
        return QueryStatus.UNSUPPORTED
    if isinstance(error, psycopg.OperationalError) and not connected:
        return QueryStatus.UNREACHABLE
    return QueryStatus.ERROR


class FailureLog:
    """The failures of one node's queries, by name (`` is the node itself), and the functions that it refuses."""

    def __init__(self, node: Node) -> None:
        self._names = {"cluster": node.cluster, "node": node.name}
        self._logged: dict[str, str] = {}
        """The status last logged."""
        self._refused: dict[str, QueryStatus] = {}

    @property
    def failing(self) -> frozenset[str]:
        """The names whose last logged status is a failure."""
        return frozenset(self._logged)

    def status(self, name: str = "") -> str | None:
        """Return the status that was last logged under this name; None: it works, as far as is known."""
        return self._logged.get(name)

    def failed(self, status: QueryStatus, message: str, name: str = "") -> None:
        """Log a failure once per change, not once per scrape."""
        if self._logged.get(name) != f"{status}":
            self._logged[name] = f"{status}"
            text = "cannot query the node"
            log.warning(text, **self._names, probe=name or None, status=f"{status}", error=_one_line(message))

    def refused(self, function: str, status: QueryStatus, message: str) -> None:
        """Log once that the server refuses a function, which the queries then do without."""
        if self._refused.get(function) is not status:
            self._refused[function] = status
            text = "the server refuses a function: what depends on it is unknown, everything else is shown"
            log.warning(text, **self._names, function=function, status=f"{status}", error=_one_line(message))

    def accepted(self, function: str) -> None:
        """Log that the server runs a function again that it had refused."""
        if self._refused.pop(function, None) is not None:
            log.info("the server no longer refuses the function", **self._names, function=function)

    def works_again(self, name: str, text: str) -> None:
        """Log that this name works again, if it had failed; its own failure is forgotten."""
        if self.forget(name):
            log.info(text, **self._names, probe=name or None)

    def forget(self, name: str) -> bool:
        """Forget this name's failure; return whether there was one."""
        return self._logged.pop(name, None) is not None


def _one_line(message: str) -> str:
    return " ".join(message.split())

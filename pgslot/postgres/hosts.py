"""The servers that a connection string lists, each as a node of its own: for commands without a configuration file."""

from psycopg.conninfo import make_conninfo

from pgslot.cli.errors import ConfigError
from pgslot.config.conninfo import CONNINFO, Conninfo, conninfo_fault
from pgslot.config.model import Node
from pgslot.postgres.connect import parse_endpoints

MAX_HOSTS = 32
"""A cluster has fewer servers; every one of them gets a connection."""


def nodes_of(conninfo: str, cluster: str) -> tuple[Node, ...]:
    """
    Return a node, named HOST:PORT, for every host of a connection string, whatever its target_session_attrs.

    libpq's environment and service files count as for libpq. Raises ConfigError, which shows nothing of a password.
    """
    if (fault := conninfo_fault(conninfo)) is not None:
        raise ConfigError(f"--conninfo: expected {CONNINFO}, found {fault}")
    endpoints, _ = parse_endpoints(conninfo)
    if len(endpoints) > MAX_HOSTS:
        raise ConfigError(f"--conninfo: expected at most {MAX_HOSTS} hosts, found {len(endpoints)}")
    nodes = {}
    for endpoint in endpoints:
        # Without a port libpq cannot parse the string: its own connection says what is wrong.
        where = {"host": endpoint.host, "hostaddr": endpoint.address, "port": endpoint.port} if endpoint.port else {}
        text = make_conninfo(conninfo, **where, target_session_attrs="any")
        nodes[str(endpoint)] = Node(cluster, str(endpoint), Conninfo(text))
    return tuple(nodes.values())


def primary_conninfo(conninfo: str) -> Conninfo:
    """Return the same connection string for whichever of its hosts is the primary."""
    return Conninfo(make_conninfo(conninfo, target_session_attrs="read-write"))

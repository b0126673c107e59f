"""
Which programs a test may start, by its markers; conftest.py sets the markers by fixtures and installs the guard.

Without a marker: programs of the virtual environment, the two of this project among them, and those of any base system.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from inspect import unwrap
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

import pytest

from tests.support.servers.monitoring import Server
from tests.support.servers.patroni import Etcd, PatroniCluster
from tests.support.servers.pooler import Pooler
from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import Stack

SERVERS = frozenset(
    {
        *("initdb", "pg_basebackup", "pg_createsubscriber", "pg_receivewal", "pg_recvlogical", "postgres", "psql"),
        *("etcd", "patroni", "pgbouncer", "prometheus", "prometheus-alertmanager", "prometheus-postgres-exporter"),
    }
)
"""Servers, and the programs that come with PostgreSQL's and are of no use without it."""
OUR_PROGRAMS = frozenset({"pg-slot-exporter", "pg-slot-healer"})
BASE_SYSTEM = frozenset({"bash", "env", "git", "make", "openssl", "sh"})
_LAUNCHERS = frozenset({"bash", "env", "sh"})
_VIRTUAL_ENVIRONMENT = Path(sys.executable).parent


class MissingMarkerError(Exception):
    """A test starts a program for which it has no marker."""


def needed_marker(command: Iterable[str | bytes | os.PathLike[str]]) -> str | None:
    """Return `servers` or `tools`, or None for a program that is always there."""
    program, *arguments = map(os.fsdecode, command)
    name = Path(program).name
    started = [name]
    if name in _LAUNCHERS:
        started += [Path(word).name for argument in arguments for word in argument.split()]
    if SERVERS.intersection(started):
        return "servers"
    if name in OUR_PROGRAMS | BASE_SYSTEM or Path(program).parent == _VIRTUAL_ENVIRONMENT or program == sys.executable:
        return None
    return "tools"


class ProcessGuard:
    """An audit hook: while a test runs, each start of a program is checked against the test's markers."""

    def __init__(self) -> None:
        self.test: pytest.Item | None = None
        """The test that runs; None between tests and while they are collected."""
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and self.test is not None:
            self.check(self.test, arguments[1])

    def check(self, test: pytest.Item, command: Any) -> None:
        """Raise MissingMarkerError if the test needs a marker, `servers` or `tools`, to run the command."""
        words = [command] if isinstance(command, str | bytes | os.PathLike) else command
        marker = needed_marker(words)
        if marker is None or test.get_closest_marker("servers") is not None:
            return
        if marker == "servers" or test.get_closest_marker("tools") is None:
            raise MissingMarkerError(
                f"{test.nodeid} starts {os.fsdecode(words[0])}: mark it with @pytest.mark.{marker}"
            )


def uses_servers(test: pytest.Item, conftest: ModuleType) -> bool:
    """Return whether one of the test's fixtures returns a server, or something that runs some."""
    if not isinstance(test, pytest.Function):
        return False
    fixtures = (getattr(test.module, name, getattr(conftest, name, None)) for name in test.fixturenames)
    return any(_returns_server(fixture) for fixture in fixtures if callable(fixture))


@cache
def _returns_server(fixture: Callable[..., object]) -> bool:
    annotation = get_type_hints(unwrap(fixture))["return"]
    return any(
        issubclass(kind, (Stack, Postgres, Server, Etcd, PatroniCluster, Pooler)) for kind in _classes(annotation)
    )


def _classes(annotation: object) -> Iterator[type]:
    """Return the classes in a type: Stack of Iterator[Stack]."""
    if arguments := get_args(annotation):
        for argument in arguments:
            yield from _classes(argument)
    elif isinstance(annotation, type):
        yield annotation

"""Passwords that end: a kept connection is renewed in time, and no collection is lost for it."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Node
from pgslot.config.password_command import PasswordCommand
from pgslot.postgres.passwords import passwords
from pgslot.snapshot.model import QueryStatus
from pgslot.snapshot.node import NodeCollector
from tests.support.servers.conditions import password_required
from tests.support.servers.stack import Stack

FIRST, SECOND = "first-token", "second-token"


@pytest.fixture
def role(databases: Stack) -> Iterator[str]:
    with password_required(databases.primary, "expiring", FIRST) as conninfo:
        yield conninfo


def command(file: Path, ttl: float | None) -> PasswordCommand:
    return PasswordCommand(("cat", str(file)), ttl)


def node(conninfo: str, file: Path, ttl: float | None) -> Node:
    return Node("c", "n", Conninfo(conninfo, password=command(file, ttl)))


def backends(databases: Stack) -> set[int]:
    rows = databases.primary.sql("SELECT pid FROM pg_catalog.pg_stat_activity WHERE usename = 'expiring'")
    return {pid for (pid,) in rows}


async def test_kept_connection_is_renewed_with_a_new_password_and_nothing_is_lost(
    databases: Stack, role: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    token = tmp_path / "token"
    token.write_text(f"{FIRST}\n")
    collector = NodeCollector(node(role, token, 3600), "renewal")
    try:
        assert (await collector.collect(10)).up
        first = backends(databases)
        assert (await collector.collect(10)).up
        assert backends(databases) == first
        session = collector.connection.session
        assert session is not None
        # The program fails just when the password is about to end: the connection serves on.
        databases.primary.sql(f"ALTER ROLE expiring PASSWORD '{SECOND}'")
        token.rename(tmp_path / "away")
        session.renew_at = 0.0
        passwords().forget(command(token, 3600))
        assert (await collector.collect(10)).up
        assert backends(databases) == first
        logged = [getattr(record, "fields", {}) for record in caplog.records]
        [warning] = [fields for fields in logged if fields.get("probe") == "renewal"]
        assert FIRST not in str(logged)
        assert "exit code 1 of cat" in warning["error"]
        token.write_text(f"{SECOND}\n")
        session.renew_at = 0.0
        assert (await collector.collect(10)).up
        assert backends(databases).isdisjoint(first)
        assert caplog.records[-1].getMessage() == "the connection was renewed"
    finally:
        await collector.close()


async def test_refused_password_is_asked_for_again(role: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("wrong\n")
    collector = NodeCollector(node(role, token, 3600), "renewal")
    try:
        assert (await collector.collect(10)).statuses["node"] is QueryStatus.LOGIN_FAILED
        token.write_text(f"{FIRST}\n")
        assert (await collector.collect(10)).up
    finally:
        await collector.close()


async def test_without_ttl_a_connection_is_kept(databases: Stack, role: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(f"{FIRST}\n")
    configured = node(role, token, None)
    assert configured == replace(configured)
    collector = NodeCollector(configured, "renewal")
    try:
        assert (await collector.collect(10)).up
        token.unlink()
        first = backends(databases)
        assert (await collector.collect(10)).up
        assert backends(databases) == first
    finally:
        await collector.close()

"""Observations of slots in creation: on a server, by the exporter, and in the healer's log."""

import contextlib
from collections.abc import Callable
from typing import Any

from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import NotReadyError, wait_for
from tests.support.servers.stack import PRIMARY_NODE, Stack


def comes_to(observe: Callable[[], Any], expected: Any, seconds: float = 30.0) -> None:
    """Wait until the observation is as expected; otherwise fail with the actual one."""
    with contextlib.suppress(NotReadyError):
        wait_for(lambda: observe() == expected, "as expected", seconds)
    actual = observe()
    assert actual == expected, f"{actual} in place of {expected}"


def in_creation(server: Postgres) -> set[str]:
    """Return the slots that a client is creating and cannot use yet."""
    rows = server.sql(
        "SELECT slot_name FROM pg_catalog.pg_replication_slots"
        " WHERE slot_type = 'logical' AND active AND confirmed_flush_lsn IS NULL"
    )
    return {name for (name,) in rows}


def reasons(stack: Stack, node: str) -> dict[str, str]:
    """Return slot -> what its creation waits for, by the exporter."""
    samples = stack.exporter.samples("pgslot_creation_wait_reason", node=node)
    return {sample.labels["slot_name"]: sample.labels["reason"] for sample in samples if sample.value == 1}


def blockers(stack: Stack) -> dict[str, tuple[str, str]]:
    """Return slot -> pid and application of the transaction that blocks it, by the exporter."""
    samples = stack.exporter.samples("pgslot_creation_blocker_age_seconds", node=PRIMARY_NODE)
    return {sample.labels["slot_name"]: (sample.labels["pid"], sample.labels["application_name"]) for sample in samples}


def outcomes(stack: Stack, names: set[str]) -> dict[str, tuple[str, str]]:
    """
    Return slot -> first outcome and why in the healer's log, for those of `names` that have one.

    An alert that is repeated after the end of its heal has an outcome as well, as there is nothing left to do.
    """
    heals = [event for event in stack.healer.log_events() if event["msg"] == "heal ended" and event["slot"] in names]
    return {event["slot"]: (event["outcome"], event["why"]) for event in reversed(heals)}

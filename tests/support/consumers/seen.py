"""What is seen of slots in creation: on a server, and by the exporter."""

import contextlib
from collections.abc import Callable
from typing import Any

from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import NotReadyError, wait_for
from tests.support.servers.stack import PRIMARY_NODE, Stack


def comes_to(look: Callable[[], Any], expected: Any, seconds: float = 30.0) -> None:
    """Look until this is seen; fail with what is seen in place of it."""
    with contextlib.suppress(NotReadyError):
        wait_for(lambda: look() == expected, "as expected", seconds)
    found = look()
    assert found == expected, f"{found} in place of {expected}"


def in_creation(server: Postgres) -> set[str]:
    """Return the slots somebody is making and cannot use yet."""
    found = server.sql(
        "SELECT slot_name FROM pg_catalog.pg_replication_slots"
        " WHERE slot_type = 'logical' AND active AND confirmed_flush_lsn IS NULL"
    )
    return {name for (name,) in found}


def reasons(stack: Stack, node: str) -> dict[str, str]:
    """Return slot -> what its creation waits for, as the exporter has it."""
    found = stack.exporter.samples("pgslot_creation_wait_reason", node=node)
    return {sample.labels["slot_name"]: sample.labels["reason"] for sample in found if sample.value == 1}


def blockers(stack: Stack) -> dict[str, tuple[str, str]]:
    """Return slot -> pid and application of the transaction in its way, as the exporter has it."""
    found = stack.exporter.samples("pgslot_creation_blocker_age_seconds", node=PRIMARY_NODE)
    return {one.labels["slot_name"]: (one.labels["pid"], one.labels["application_name"]) for one in found}


def outcomes(stack: Stack, names: set[str]) -> dict[str, tuple[str, str]]:
    """
    Return slot -> outcome and why, of those of these slots that the healer's log has one of: the first.

    An alert that is still told after that gets one of its own: nothing was left to do.
    """
    heals = [event for event in stack.healer.log_events() if event["msg"] == "heal ended" and event["slot"] in names]
    return {event["slot"]: (event["outcome"], event["why"]) for event in reversed(heals)}

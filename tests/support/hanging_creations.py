"""Creations of a slot on the standby that do not finish without a healer."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.servers.sessions import OpenTransaction, Statement
from tests.support.servers.stack import Stack


@contextmanager
def hanging_creation(stack: Stack, slot: str) -> Iterator[Statement]:
    """Create a slot on the standby; its primary logs no running-xacts record, for which the creation waits."""
    with stack.quiet(), stack.standby.create_slot(slot) as creator:
        yield creator


@contextmanager
def blocked_creation(
    stack: Stack, slot: str, application: str = "holder"
) -> Iterator[tuple[OpenTransaction, Statement]]:
    """Create a slot on the standby; it waits for a transaction on the primary, then for running-xacts records."""
    with (
        stack.quiet(),
        stack.primary.hold_transaction(application_name=application) as holder,
        stack.standby.create_slot(slot) as creator,
    ):
        yield holder, creator

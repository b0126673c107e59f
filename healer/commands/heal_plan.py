"""What `heal --conninfo` would do for the slots that wait, in sentences. Pure functions of a snapshot."""

from collections.abc import Collection, Iterator, Mapping

from healer.episodes.journal import describe_state
from healer.remedies.force_snapshot.need import IN_NEED, MIN_WAIT_SECONDS, record_cures, record_helps
from healer.remedies.slot_state import SlotCondition, SlotKey, SlotState
from pgslot.cli.errors import ConfigError
from pgslot.config.model import HealerSettings
from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.rows import Transaction
from pgslot.status.commands import end_transaction


def choose(states: Mapping[SlotKey, SlotState], names: Collection[str], existing: Collection[str]) -> list[SlotKey]:
    """
    Return the slots to heal, of those that a record may help: those of these names, by default the one that waits.

    Where none certainly waits, that is all whose state only further snapshots can show. `existing`: the names of all
    slots that the nodes show. Raises ConfigError if several wait and no name is given, or no slot has a name.
    """
    if names:
        for name in names:
            if name not in existing:
                raise ConfigError(f"--slot: expected a slot of these servers, found {name!r}, which none of them has")
        return [key for key in states if key.slot_name in names]
    waiting = [key for key, state in states.items() if state.condition in IN_NEED]
    if len(waiting) > 1:
        listed = ", ".join(f"{key.slot_name} on {key.node}" for key in waiting)
        raise ConfigError(f"--slot: expected a name, once for each slot to heal, as several wait: {listed}")
    return waiting or list(states)


def may_help(state: SlotState) -> bool:
    """Return whether a call may help this slot, now or within the time of an episode."""
    if state.condition is SlotCondition.INCONCLUSIVE or record_helps(state):
        return True
    wait = state.wait
    if wait is None or state.on_primary:
        return False
    # A creation that has just begun needs a record as soon as it has reserved its WAL.
    return not wait.creation.wal_reserved or (wait.creation.wait_seconds or 0.0) < MIN_WAIT_SECONDS


def plan(states: Mapping[SlotKey, SlotState], primary: NodeSnapshot | None, settings: HealerSettings) -> Iterator[str]:
    """
    Yield what these slots wait for, what is in the way, and what an episode with these settings would do.

    `primary`: None: it is not known.
    """
    yield from obstacles(states, primary)
    helped = [state for state in states.values() if may_help(state)]
    if not helped:
        return
    after = "" if any(map(record_cures, helped)) else "watch, and as soon as a record helps, "
    many = "slots are" if len(states) > 1 else "slot is"
    yield (
        f"would {after}call pg_log_standby_snapshot() {_on(primary)}: up to {settings.burst_calls} times at intervals"
        f" of {settings.burst_interval:g} s, then every {settings.interval:g} s, until the {many} usable, for"
        f" {settings.give_up_after:g} s at most"
    )
    yield "a call writes one small WAL record; it ends no session, and changes no slot and no setting"


def obstacles(states: Mapping[SlotKey, SlotState], primary: NodeSnapshot | None) -> Iterator[str]:
    """Yield what these slots wait for, and what a person can do about what is in the way."""
    for key, state in states.items():
        yield f"slot {key.slot_name} on {key.node}: {' '.join(describe_state(state))}"
        yield from _obstacle(state, _on(primary))


def _on(primary: NodeSnapshot | None) -> str:
    return "on the primary" if primary is None else f"on the primary {primary.node}"


def _obstacle(state: SlotState, on_primary: str) -> Iterator[str]:
    blocker = (state.blocker or state.pinned_by) if state.wait is None else state.wait.blocker
    if blocker is not None:
        yield f"  in the way: {_who(blocker)}"
        step = end_transaction(blocker, None)
        yield f"  no record helps before it ends. {step.text}; it costs: {step.costs}"
        yield f"  {on_primary}: {step.command}"
        if state.on_primary:
            yield "  then the server logs the record itself: no call is needed"
    elif not may_help(state):
        yield f"  no call helps against that{f': {state.reason}' if state.reason is not None else ''}"


def _who(transaction: Transaction) -> str:
    age = "" if transaction.age_seconds is None else f", open for {transaction.age_seconds:.0f} s"
    if transaction.pid is None:
        return f"the prepared transaction {transaction.application_name} of {transaction.usename}{age}"
    who = f"pid {transaction.pid}, user {transaction.usename}, application {transaction.application_name or '(none)'}"
    return f"a transaction of the {transaction.backend_type} with {who}, {transaction.state or 'state unknown'}{age}"

"""What the creation of a logical slot would wait for: pure functions of two snapshots of a cluster."""

from collections.abc import Iterator, Sequence

from pgslot.cli.amounts import duration, size
from pgslot.diagnosis.creation_wait import WaitReason, replay_blocked_by
from pgslot.diagnosis.preflight_model import Line, Observation, Status, Wait
from pgslot.diagnosis.preflight_server import STANDBYS_SINCE_MAJOR
from pgslot.diagnosis.upstream import fed_from_archive, topmost_standby
from pgslot.postgres.types import quote_identifier
from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.preflight_rows import PreflightServer
from pgslot.snapshot.privileges import grant
from pgslot.snapshot.rows import NodeFacts, Standby, Transaction

RECORD_SECONDS = 15.0
"""LOG_SNAPSHOT_INTERVAL_MS of PostgreSQL: the least time between two records of the background writer."""
HIBERNATION_DELAYS = 50
"""The background writer sleeps so many times bgwriter_delay where it had nothing to do."""
RECORD_BYTES = 128
"""A primary that wrote no more may have logged just a record, the last one before it falls silent."""
RECORDS_AT_MOST = 4
"""So many records a creation on a standby reads, where transactions on the primary overlap; one where none is open."""
MAX_NAMED = 5

_RECORD = "SELECT pg_catalog.pg_log_standby_snapshot();"


def wait_lines(observed: Observation, node: NodeSnapshot, facts: NodeFacts, server: PreflightServer) -> Iterator[Line]:
    """Yield the lines about what a creation would wait for, and what would end it meanwhile."""
    if facts.in_recovery and facts.major < STANDBYS_SINCE_MAJOR:
        return
    primary = observed.cluster.primary
    transactions = _transactions(observed, primary, server if not facts.in_recovery else observed.primary)
    yield transactions
    if facts.in_recovery:
        if node.standby is None:
            text = f"what {observed.node} replays could not be seen"
            yield Line("replay", Status.UNKNOWN, text, (grant(facts.role),), "the primary")
        else:
            yield _replay(observed, node, node.standby)
        yield _record(observed, node, facts)
    elif transactions.wait is not None:
        yield from _timeouts(server)


def _transactions(observed: Observation, primary: NodeSnapshot | None, server: PreflightServer | None) -> Line:
    if primary is None:
        text = "transactions on the primary could not be seen: add the primary's host to --conninfo"
        return Line("transactions", Status.UNKNOWN, text)
    if primary.transactions is None:
        return _hidden(primary, server)
    blockers = _in_both(observed, primary)
    if not blockers:
        return Line("transactions", Status.OK, f"no transaction with an xid stays open on {primary.node}")
    counts = {transaction.kind: transaction.open_count for transaction in blockers}
    more = max(0, sum(counts.values()) - len(blockers[:MAX_NAMED]))
    named = "; ".join(_who(transaction) for transaction in blockers[:MAX_NAMED])
    text = f"the creation waits until these transactions end: {named}" + (f"; up to {more} more" if more else "")
    fix = tuple(statement for transaction in blockers[:MAX_NAMED] for statement in _ending(transaction))
    return Line("transactions", Status.WARNING, text, fix, primary.node, wait=Wait.TRANSACTIONS)


def _hidden(primary: NodeSnapshot, server: PreflightServer | None) -> Line:
    fix = () if primary.facts is None else (grant(primary.facts.role),)
    if server is not None and server.xid_holders:
        pids = ", ".join(f"pid {pid}" if pid else "a prepared transaction" for pid in server.xid_holders[:MAX_NAMED])
        text = f"the creation waits until the open transactions end ({pids}); whose they are is hidden from our role"
        return Line("transactions", Status.WARNING, text, fix, primary.node, wait=Wait.TRANSACTIONS)
    if server is not None:
        return Line("transactions", Status.OK, f"no transaction with an xid is open on {primary.node}")
    return Line("transactions", Status.UNKNOWN, "open transactions are hidden from our role", fix, primary.node)


def _in_both(observed: Observation, primary: NodeSnapshot) -> list[Transaction]:
    """Return transactions that both looks show, oldest xid first: a busy server always has some that end at once."""
    first = observed.before.node(primary.node)
    earlier = {
        (transaction.kind, transaction.xid, transaction.application_name)
        for transaction in (first.transactions if first is not None else None) or ()
    }
    stayed = [
        transaction
        for transaction in primary.transactions or ()
        if transaction.kind in ("xid", "prepared")
        and transaction.xid is not None
        and (transaction.kind, transaction.xid, transaction.application_name) in earlier
    ]
    return sorted(stayed, key=lambda transaction: transaction.xid_age or 0, reverse=True)


def _who(transaction: Transaction) -> str:
    age = "" if transaction.age_seconds is None else f" for {duration(transaction.age_seconds)}"
    if transaction.kind == "prepared":
        name = transaction.application_name
        return f"prepared transaction {name!r} of {transaction.usename} in {transaction.datname}{age}"
    parts = [f"pid {transaction.pid}"]
    if transaction.backend_type != "client backend":
        parts.append(transaction.backend_type)
    if transaction.usename:
        parts.append(f"user {transaction.usename}")
    if transaction.application_name:
        parts.append(f"application {transaction.application_name}")
    if transaction.datname:
        parts.append(f"database {transaction.datname}")
    return f"{', '.join(parts)}, {transaction.state or 'open'}{age}"


def _ending(transaction: Transaction) -> tuple[str, ...]:
    if transaction.kind == "prepared":
        gid = transaction.application_name.replace("'", "''")
        return (f"ROLLBACK PREPARED '{gid}'; -- in {transaction.datname}, or COMMIT PREPARED, as its owner decides",)
    return (f"SELECT pg_catalog.pg_terminate_backend({transaction.pid}); -- rolls it back: ask its owner first",)


def _timeouts(server: PreflightServer) -> Iterator[Line]:
    """Yield a line if a timeout of the user would end a creation that waits."""
    # statement_timeout does not hold for commands of the replication protocol.
    if server.lock_timeout_seconds:
        text = f"lock_timeout = {server.lock_timeout_seconds:g} s of {server.usename} ends the creation while it waits"
        yield Line("timeouts", Status.WARNING, text)
    elif server.statement_timeout_seconds:
        text = (
            f"statement_timeout = {server.statement_timeout_seconds:g} s of {server.usename} ends a creation that"
            " waits, if it is a call of pg_create_logical_replication_slot()"
        )
        yield Line("timeouts", Status.WARNING, text)


_BLOCKED = {
    WaitReason.RECOVERY_CONFLICT: "replay waits for queries on this standby (max_standby_streaming_delay)",
    WaitReason.WAL_RECEIVER_DOWN: "no WAL arrives: the WAL receiver is not connected",
}


def _replay(observed: Observation, node: NodeSnapshot, standby: Standby) -> Line:
    reason = replay_blocked_by(node, observed.cluster)
    lag = standby.replay_lag_bytes
    if reason is None:
        behind = "" if not lag else f", {size(lag)} behind what it received"
        return Line("replay", Status.OK, f"{observed.node} replays WAL{behind}")
    if reason is WaitReason.REPLAY_PAUSED:
        fix = ("SELECT pg_catalog.pg_wal_replay_resume();",)
        text = f"replay is {standby.replay_pause_state}: the creation waits until it goes on"
        return Line("replay", Status.WARNING, text, fix, observed.node, wait=Wait.REPLAY)
    if reason is WaitReason.REPLAY_DELAYED:
        delay = duration(standby.apply_delay_seconds)
        text = f"replay is delayed by {delay} (recovery_min_apply_delay), and so is the creation"
        return Line("replay", Status.WARNING, text, wait=Wait.REPLAY)
    if reason is WaitReason.REPLAY_LAG:
        text = f"replay is {size(lag or 0)} behind: the creation waits until it has caught up"
        return Line("replay", Status.WARNING, text, wait=Wait.REPLAY)
    return Line("replay", Status.WARNING, f"{_BLOCKED[reason]}: the creation waits for it", wait=Wait.REPLAY)


def _record(observed: Observation, node: NodeSnapshot, facts: NodeFacts) -> Line:
    """Return what the wait for the next running-xacts record looks like: a standby cannot log one itself."""
    if fed_from_archive(topmost_standby(node, observed.cluster).standby):
        text = "the creation waits for a running-xacts record, which arrives with the next archived segment"
        return Line(
            "record", Status.WARNING, text, ("SELECT pg_catalog.pg_switch_wal();",), "the primary", wait=Wait.RECORD
        )
    source = observed.cluster.primary or node
    name = "the primary" if observed.cluster.primary is None else source.node
    writes = _moves(observed, source)
    fix = (_RECORD, *_grants(observed))
    asks = f" {_who_may(observed)}"
    if writes:
        delay = source.facts.bgwriter_delay_seconds if source.facts is not None else facts.bgwriter_delay_seconds
        bound = RECORDS_AT_MOST * RECORD_SECONDS + HIBERNATION_DELAYS * delay
        text = (
            f"the creation waits for the next running-xacts record of {name}, which writes WAL and logs one every"
            f" {RECORD_SECONDS:.0f} s or so, and for up to {RECORDS_AT_MOST} where transactions overlap:"
            f" {duration(bound)} at most while it goes on writing."
        )
        return Line("record", Status.WARNING, text + asks, fix, name, wait=Wait.RECORD, at_most_seconds=bound)
    seen = (
        f"wrote no WAL for {duration(observed.apart_seconds)}" if writes is False else "did not show its WAL position"
    )
    text = (
        f"the creation waits for a running-xacts record, and {name} {seen}: an idle primary logs none, so the creation"
        " hangs until somebody asks for one."
    )
    return Line("record", Status.WARNING, text + asks, fix, name, wait=Wait.RECORD)


def _moves(observed: Observation, source: NodeSnapshot) -> bool | None:
    """Return whether the node wrote, or replayed, more than a record between the two snapshots; None: unknown."""
    first = observed.before.node(source.node)
    then = first.facts.wal_written_bytes if first is not None and first.facts is not None else None
    now = source.facts.wal_written_bytes if source.facts is not None else None
    return None if then is None or now is None else now - then > RECORD_BYTES


def _who_may(observed: Observation) -> str:
    primary = observed.primary
    if primary is None:
        return "A superuser may ask for one on the primary, and every role with EXECUTE on the function."
    roles = list(primary.may_force_records)
    listed = _listed(roles) if roles else "superusers"
    if primary.user_may_force_record:
        return f"{primary.usename} may ask for one itself."
    return f"{listed} may ask for one; {primary.usename} may not."


def _listed(roles: Sequence[str]) -> str:
    return roles[0] if len(roles) == 1 else f"{', '.join(roles[:-1])} and {roles[-1]}"


def _grants(observed: Observation) -> tuple[str, ...]:
    primary = observed.primary
    if primary is None or primary.user_may_force_record or primary.user_may_force_record is None:
        return ()
    user = quote_identifier(primary.usename)
    return (f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO {user};",)

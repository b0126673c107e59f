"""What a slot's consumer needs, and what holds once it is slow or away: pure functions."""

from collections.abc import Iterator

from pgslot.cli.amounts import duration, size
from pgslot.diagnosis.preflight_model import Line, Observation, Stage, Status
from pgslot.postgres.types import quote_identifier
from pgslot.snapshot.model import NodeSnapshot, QueryStatus
from pgslot.snapshot.preflight_rows import PreflightPublication, PreflightServer
from pgslot.snapshot.rows import NodeFacts, Standby

MISSING_IGNORED_SINCE = 18
"""The first major version whose pgoutput warns of a missing publication, and goes on."""
SHORT_IDLE_SECONDS = 3600.0
"""A shorter idle_replication_slot_timeout loses slots to a consumer's ordinary outage."""
_RELOAD = "SELECT pg_catalog.pg_reload_conf();"


def consumer_lines(observed: Observation, server: PreflightServer, major: int) -> Iterator[Line]:
    """Yield the lines about the publication; none if none was given."""
    request, found = observed.request, observed.facts.publication
    if request.publication is None or found is None:
        return
    if request.plugin != "pgoutput":
        text = f"{request.plugin} does not use publications: {request.publication} has no effect"
        yield Line("publication", Status.WARNING, text, stage=Stage.CONSUMER)
        return
    if isinstance(found, QueryStatus):
        text = f"publication {request.publication} could not be read in {server.datname}: {found}"
        yield Line("publication", Status.UNKNOWN, text, stage=Stage.CONSUMER)
        return
    name = quote_identifier(request.publication)
    yield _publication(found, name, server.datname, major)
    if found.exists and found.table_count:
        yield _identity(found, name)
        yield _heartbeat(found, name, server.datname)


def _publication(found: PreflightPublication, name: str, database: str, major: int) -> Line:
    if not found.exists:
        others = f" (there: {', '.join(found.publications)})" if found.publications else ""
        effect = "gets nothing, without an error" if major >= MISSING_IGNORED_SINCE else "fails at the first change"
        text = f"publication {name} does not exist in {database}{others}: the consumer {effect}"
        create = f"CREATE PUBLICATION {name} FOR TABLE ...;"
        return Line("publication", Status.FAIL, text, (create,), "the primary", Stage.CONSUMER)
    if not found.table_count:
        text = f"publication {name} has no tables: the consumer gets nothing"
        if found.all_tables:
            return Line("publication", Status.WARNING, text, stage=Stage.CONSUMER)
        add = f"ALTER PUBLICATION {name} ADD TABLE ...;"
        return Line("publication", Status.WARNING, text, (add,), "the primary", Stage.CONSUMER)
    tables = "1 table" if found.table_count == 1 else f"{found.table_count} tables"
    return Line("publication", Status.OK, f"publication {name} has {tables}", stage=Stage.CONSUMER)


def _identity(found: PreflightPublication, name: str) -> Line:
    if not found.needs_identity:
        text = f"publication {name} publishes neither updates nor deletes, so no table needs a replica identity"
        return Line("replica identity", Status.OK, text, stage=Stage.CONSUMER)
    if not found.unidentified_count:
        return Line("replica identity", Status.OK, "every published table has one", stage=Stage.CONSUMER)
    more = found.unidentified_count - len(found.unidentified)
    tables = ", ".join(found.unidentified) + (f" and {more} more" if more else "")
    text = f"UPDATE and DELETE already fail on {tables}: no primary key, and no other replica identity"
    fix = tuple(f"ALTER TABLE {table} REPLICA IDENTITY FULL; -- or add a primary key" for table in found.unidentified)
    return Line("replica identity", Status.FAIL, text, fix, "the primary", Stage.CONSUMER)


def _heartbeat(found: PreflightPublication, name: str, database: str) -> Line:
    if found.heartbeats:
        text = f"{', '.join(found.heartbeats)} is published; the consumer has to write to it at intervals"
        return Line("heartbeat", Status.OK, text, stage=Stage.CONSUMER)
    text = (
        f"publication {name} has no heartbeat table: while {database} is quiet and other databases write, a consumer"
        " that confirms only what it receives lets WAL pile up"
    )
    table = next(iter(found.unpublished_heartbeats), "public.heartbeat")
    fix: tuple[str, ...] = () if found.all_tables else (f"ALTER PUBLICATION {name} ADD TABLE {table};",)
    if not found.unpublished_heartbeats:
        fix = (f"CREATE TABLE {table} (id int PRIMARY KEY, at timestamptz NOT NULL);", *fix)
    return Line("heartbeat", Status.WARNING, text, fix, "the primary", Stage.CONSUMER)


def later_lines(observed: Observation, node: NodeSnapshot, facts: NodeFacts) -> Iterator[Line]:
    """Yield the lines about what limits the WAL of a slot, and what may lose it."""
    yield _limit(observed, facts)
    if facts.idle_replication_slot_timeout_seconds is not None:
        yield _idle_timeout(observed.node, facts.idle_replication_slot_timeout_seconds)
    if facts.in_recovery and node.standby is not None:
        yield _feedback(observed.node, node.standby)
    yield _disk(observed, node, facts)


def _limit(observed: Observation, facts: NodeFacts) -> Line:
    limit = facts.max_slot_wal_keep_size_bytes
    if limit is None:
        text = "max_slot_wal_keep_size is -1: WAL of a slot that nobody reads piles up until the disk is full"
        limited = "ALTER SYSTEM SET max_slot_wal_keep_size = '...GB'; -- less than pg_wal has free"
        return Line("WAL limit", Status.WARNING, text, (limited, _RELOAD), observed.node, Stage.LATER)
    if limit < facts.max_wal_size_bytes:
        text = (
            f"max_slot_wal_keep_size is {size(limit)}, less than max_wal_size ({size(facts.max_wal_size_bytes)}): a"
            " slot may be lost between two checkpoints"
        )
        fix = (f"ALTER SYSTEM SET max_slot_wal_keep_size = '{2 * facts.max_wal_size_bytes // 1024**2}MB';", _RELOAD)
        return Line("WAL limit", Status.WARNING, text, fix, observed.node, Stage.LATER)
    text = f"a slot is lost once it keeps {size(limit)} of WAL (max_slot_wal_keep_size)"
    return Line("WAL limit", Status.OK, text, stage=Stage.LATER)


def _idle_timeout(node: str, seconds: float) -> Line:
    text = f"a slot is lost once its consumer is away for {duration(seconds)} (idle_replication_slot_timeout)"
    if seconds >= SHORT_IDLE_SECONDS:
        return Line("idle timeout", Status.OK, text, stage=Stage.LATER)
    fix = ("ALTER SYSTEM SET idle_replication_slot_timeout = '1d';", _RELOAD)
    return Line("idle timeout", Status.WARNING, f"{text}, an ordinary outage", fix, node, Stage.LATER)


def _feedback(node: str, standby: Standby) -> Line:
    if not standby.hot_standby_feedback:
        text = "hot_standby_feedback is off: the primary may vacuum what the slot needs, which then is lost"
        fix = ("ALTER SYSTEM SET hot_standby_feedback = on;", _RELOAD)
        return Line("feedback", Status.WARNING, text, fix, node, Stage.LATER)
    if not standby.primary_slot_name:
        text = (
            "hot_standby_feedback is on, without a physical slot (primary_slot_name): while the standby is disconnected"
            " the primary may vacuum what the slot needs"
        )
        return Line("feedback", Status.WARNING, text, stage=Stage.LATER)
    text = f"hot_standby_feedback is on, and the slot {standby.primary_slot_name} keeps it while the standby is away"
    return Line("feedback", Status.OK, text, stage=Stage.LATER)


def _disk(observed: Observation, node: NodeSnapshot, facts: NodeFacts) -> Line:
    """Return what is known of the disk: no SQL shows how much of it is free."""
    directory = node.wal.directory if node.wal is not None else None
    now = "" if directory is None else f"WAL takes {size(directory.size_bytes)} now. "
    limit, room = facts.max_slot_wal_keep_size_bytes, observed.wal_volume_bytes
    growth = "Slots have no limit" if limit is None else f"Slots may keep {size(limit)} beside what checkpoints need"
    if room is None:
        text = f"{now}{growth}. PostgreSQL does not show how much of the volume is free"
        return Line("disk", Status.UNKNOWN, text, ("$ df -h $PGDATA/pg_wal",), observed.node, Stage.LATER)
    text = f"{now}{growth}, and WAL has {size(room)} (wal_volume)"
    if limit is None or limit + facts.max_wal_size_bytes > room:
        return Line("disk", Status.WARNING, f"{text}: a slot can fill the volume", stage=Stage.LATER)
    return Line("disk", Status.OK, text, stage=Stage.LATER)

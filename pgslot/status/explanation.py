"""Everything that is known of one slot, as a colleague would write it: a pure function of its status."""

from collections.abc import Iterator
from datetime import UTC, datetime

from pgslot.cli.amounts import duration, size
from pgslot.diagnosis.failover_readiness import Readiness
from pgslot.diagnosis.retention import RetentionCause
from pgslot.postgres.types import format_lsn
from pgslot.snapshot.rows import Slot
from pgslot.status import wording
from pgslot.status.cause_sentences import cause_sentences
from pgslot.status.slot_status import RoomLimit, SlotState, SlotStatus


def explanation(status: SlotStatus) -> tuple[str, ...]:
    """Return paragraphs of plain text: what the slot is, what it retains, why, and what a failover would do to it."""
    paragraphs = (_identity(status), _retained(status), cause_sentences(status), _room(status), _failover(status))
    return tuple(text for text in (" ".join(sentences) for sentences in paragraphs) if text)


def moment(unix_time: float) -> str:
    """Return a time of the server's clock, in UTC."""
    return datetime.fromtimestamp(unix_time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _identity(status: SlotStatus) -> Iterator[str]:
    role = "the primary" if status.on_primary else "a standby"
    kind = f"a {status.slot_type} slot"
    if status.database:
        kind += f" of database {status.database}"
    if status.slot is not None and status.slot.plugin:
        kind += f", with plugin {status.slot.plugin}"
    yield f"Slot {status.slot_name} on {status.node}, {role}, is {kind}."
    if status.state is SlotState.COPY:
        yield "It is the copy of a failover slot: nobody can use it before this standby is promoted."
    elif status.state is SlotState.LOST:
        reason = None if status.slot is None else status.slot.invalidation_reason
        yield f"PostgreSQL has invalidated it ({reason or 'no reason is shown'}): {wording.why(status)}."
    yield from _in_use(status)


def _in_use(status: SlotStatus) -> Iterator[str]:
    slot, facts = status.slot, status.facts
    if status.user is not None:
        since = status.user.connected_seconds
        connected = "" if since is None else f", which connected {duration(since)} ago"
        verb = "creates" if status.state is SlotState.CREATING else "uses"
        yield f"The session with {wording.user(status.user)}{connected}, {verb} it."
    elif status.state is SlotState.INACTIVE and slot is not None:
        if slot.inactive_since is None or facts is None:
            yield "No session uses it, and this version of PostgreSQL does not show since when."
        else:
            ago = duration(facts.server_time - slot.inactive_since)
            yield f"No session has used it for {ago}, since {moment(slot.inactive_since)}."
    elif status.state is SlotState.ACTIVE:
        yield "A session uses it."


def _retained(status: SlotStatus) -> Iterator[str]:
    slot = status.slot
    if slot is None or slot.retained_wal_bytes is None or slot.restart_position is None:
        if status.state is SlotState.LOST:
            yield "It retains no WAL any more."
        return
    here = slot.restart_position + slot.retained_wal_bytes
    yield (
        f"It retains {size(slot.retained_wal_bytes)} of WAL, from {format_lsn(slot.restart_position)} (restart_lsn) to"
        f" {format_lsn(here)}, where the server is now."
    )
    if slot.confirmed_position is not None:
        yield (
            f"Its consumer has confirmed everything up to {format_lsn(slot.confirmed_position)} (confirmed_flush_lsn):"
            f" {size(slot.unconfirmed_wal_bytes or 0)} are not confirmed, and {size(slot.pinned_wal_bytes or 0)} are"
            " confirmed and kept all the same."
        )
    yield from _catalog(slot, status)


def _catalog(slot: Slot, status: SlotStatus) -> Iterator[str]:
    if slot.catalog_xmin is not None and not slot.invalidated:
        age = "" if slot.catalog_xmin_age_xids is None else f", of age {slot.catalog_xmin_age_xids}"
        yield f"It keeps catalog rows since xid {slot.catalog_xmin}{age} (catalog_xmin)."
    if status.broken_feedback is not None:
        yield (
            f"The primary keeps no catalog rows for it ({status.broken_feedback.reason}, at"
            f" {status.broken_feedback.broken_at}): the next vacuum of a catalog may invalidate it."
        )


def _room(status: SlotStatus) -> Iterator[str]:
    if status.held_bytes is None:
        return
    if status.room is None:
        if status.facts is not None and status.facts.max_slot_wal_keep_size_bytes is None:
            yield "Nothing limits it (max_slot_wal_keep_size is -1): it can fill the disk, and then the server stops."
    elif status.room.limit is RoomLimit.SLOT:
        yield (
            f"It can retain {size(max(0, status.room.left_bytes))} more before a checkpoint invalidates it"
            " (max_slot_wal_keep_size)."
        )
    else:
        yield f"The volume of the WAL directory has {size(status.room.left_bytes)} left, by the configuration."
    if status.growth is None:
        yield "How fast it grows takes a second look."
    else:
        yield f"Over the last {duration(status.growth.seconds)} it changed by {wording.growth(status)}."
    if status.seconds_left is not None:
        yield f"At this rate {duration(status.seconds_left)} are left."
    if status.frees_bytes:
        yield f"If it moved to the present, the server could remove {size(status.frees_bytes)}."
    elif status.frees_bytes == 0 and status.retention is not None and status.retention.cause is not RetentionCause.NONE:
        yield "If it moved to the present, the server could remove nothing yet: something else keeps older WAL."


def _failover(status: SlotStatus) -> Iterator[str]:
    for copy in status.failover:
        yield _on_standby(copy)
    if status.is_failover_slot and not status.failover:
        yield "It is a failover slot, and no standby that would keep a copy of it was seen."
    elif status.state is not SlotState.LOST and _ends_with_primary(status):
        yield "It is not a failover slot: after a failover its consumer cannot continue from it."


def _ends_with_primary(status: SlotStatus) -> bool:
    slot = status.slot
    if slot is None or not status.on_primary or slot.slot_type == "physical":
        return False
    return slot.failover is False and not slot.temporary


def _on_standby(copy: Readiness) -> str:
    if copy.not_ready_reason is None:
        lag = "" if not copy.lag_bytes else f", {size(copy.lag_bytes)} behind"
        return f"After a failover to {copy.node} its consumer could continue from the copy there{lag}."
    because = wording.NOT_READY_BECAUSE[copy.not_ready_reason]
    if copy.ready is None:
        return f"Whether it would survive a failover to {copy.node} is not known."
    return f"It would not survive a failover to {copy.node}: {because}."

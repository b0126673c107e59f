"""Situations of slots. Each scene is one pair of servers, one rehearsal and one real switchover; it adds rows."""

from collections.abc import Callable

import psycopg

from pgslot.diagnosis import failover_readiness
from tests.rehearsals.scenes_of_settings import few_walsenders, raised_wal_level, three_nodes, wal_level
from tests.rehearsals.steps import change, in_use, waits
from tests.rehearsals.switchover import Switchover
from tests.support.failover_slots import WORKER, advance_horizon, copied
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import Stack
from tests.support.servers.workload import MORE_THAN_A_SEGMENT, write_wal

Scene = Callable[[Switchover], None]


def slots_of_every_kind(pair: Switchover) -> None:
    """Slots whose copies are in step, lag, are temporary or missing; slots without copies; the standby's own slots."""
    pair.stack.start_databases()
    primary, standby = pair.primary, pair.standby
    pair.create("temporary_copy")
    advance_horizon(primary, standby)
    pair.synchronise()
    wait_for(lambda: copied(standby, "temporary_copy"), "it is copied", 60)
    pair.create_on_standby("own")
    for server, slot in ((standby, "own_physical"), (primary, "backup"), (primary, "both"), (standby, "both")):
        server.sql("SELECT pg_catalog.pg_create_physical_replication_slot(%s, true)", [slot])
    for slot in ("in_step", "behind", "dropped"):
        pair.create(slot)
    pair.create("plain", failover=False)
    pair.insert(primary, 5)
    pair.synchronise("in_step", "behind", "dropped")
    with (
        psycopg.connect(primary.conninfo(), autocommit=True) as session,
        pair.worker_stopped(),
    ):
        session.execute("SELECT pg_catalog.pg_create_logical_replication_slot('of_session', 'test_decoding', true)")
        pair.create("not_copied")
        primary.drop_slot("dropped")
        pair.insert(primary, 5)
        pair.read(primary, "behind")
        pair.read(primary, "plain")
        primary.wait_until_replayed(standby)
        pair.read(standby, "own")
        pair.rehearse()
        pair.stop_primary()
    standby.promote()
    pair.insert(standby, 5)
    pair.expect_slot("a failover slot whose copy is in step", "in_step")
    pair.expect_slot("a failover slot that moved after the last synchronisation", "behind")
    pair.expect_slot("a failover slot whose copy is temporary", "temporary_copy")
    pair.expect_slot("a failover slot without a copy yet", "not_copied")
    pair.expect_slot("a slot without failover", "plain")
    pair.expect_exists("a temporary slot of a session", "of_session")
    pair.expect_exists("a physical slot", "backup")
    pair.expect_exists("a physical slot that both servers have", "both")
    pair.expect_slot("a logical slot of the standby itself", "own")
    pair.expect_exists("a physical slot of the standby itself", "own_physical")
    pair.expect_exists("a copy whose original was dropped", "dropped")
    standby.sql("SELECT pg_catalog.pg_create_physical_replication_slot('primary', true)")
    primary.demote(standby)
    wait_for(lambda: in_use(standby, "primary"), "the old primary streams")
    idle = not primary.sql(WORKER)
    happened = "no worker runs on the old primary" if idle else "a worker runs on the old primary"
    pair.expect_problem("sync_replication_slots is off on the old primary", "no_standby_syncs", happened, is_real=idle)


def names_taken(pair: Switchover) -> None:
    """Slots of the standby's own stop the synchronisation; consumers meet them after the promotion."""
    pair.stack.start_databases()
    primary, standby = pair.primary, pair.standby
    pair.create("earlier")
    pair.synchronise("earlier")
    primary.sql("ALTER SYSTEM SET synchronized_standby_slots = 'standby'")
    primary.sql("SELECT pg_catalog.pg_reload_conf()")
    for slot in ("ahead", "taken"):
        pair.create_on_standby(slot)
    for slot in ("ahead", "taken", "zz_later"):
        pair.create(slot)
    pair.insert(primary, 5)
    pair.read(primary, "taken")
    primary.wait_until_replayed(standby)
    # Another consumer, which reads from the standby.
    pair.read(standby, "ahead")
    pair.received["ahead"].clear()
    wait_for(lambda: not standby.sql(WORKER), "the worker has failed", 60)
    pair.rehearse()
    pair.stop_primary()
    standby.promote()
    pair.insert(standby, 5)
    pair.expect_slot("a slot that was copied before another slot's name was taken", "earlier")
    situation = "synchronized_standby_slots is set on the old primary alone"
    happened = "its consumer reads what no standby has"
    pair.expect_problem(situation, "nothing_to_wait_for", happened, is_real=pair.rows[-1].agrees)
    pair.expect_slot("a slot whose name is taken by a slot that is behind", "taken")
    pair.expect_slot("a slot whose name is taken by a slot that is ahead", "ahead")
    pair.expect_slot("a slot created after another slot's name was taken", "zz_later")
    lost = not standby.sql("SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = 'zz_later'")
    happened = "later slots were not copied" if lost else "later slots were copied"
    pair.expect_problem("a name that is taken, for the other slots", "name_taken", happened, is_real=lost)


def nothing_keeps_the_copy(pair: Switchover) -> None:
    """Synchronisation was switched off; synchronized_standby_slots of the standby names a slot that it lacks."""
    pair.stack.start_databases()
    primary, standby = pair.primary, pair.standby
    pair.create("stale")
    pair.synchronise("stale")
    standby.sql("ALTER SYSTEM RESET sync_replication_slots")
    standby.sql("SELECT pg_catalog.pg_reload_conf()")
    wait_for(lambda: not standby.sql(WORKER), "slots are no longer synchronised")
    pair.create("too_late")
    pair.insert(primary, 5)
    pair.read(primary, "stale")
    standby.sql("SELECT pg_catalog.pg_create_physical_replication_slot('nobody', true)")
    change(standby, "synchronized_standby_slots", "ghost, nobody")
    primary.wait_until_replayed(standby)
    usual = failover_readiness.STALE_SECONDS
    old = "SELECT 1 FROM pg_replication_slots WHERE synced AND inactive_since < clock_timestamp() - interval '2.1 s'"
    wait_for(lambda: standby.sql(old), "it has not been synchronised for too long")
    failover_readiness.STALE_SECONDS = 2.0
    try:
        pair.rehearse()
    finally:
        failover_readiness.STALE_SECONDS = usual
    pair.stop_primary()
    standby.promote()
    pair.insert(standby, 5)
    hangs = waits(pair, "stale")
    happened = "its consumer hangs without an error" if hangs else "its consumer reads on"
    situation = "synchronized_standby_slots of the standby names a slot that it does not have"
    pair.expect_problem(situation, "standby_slot_missing", happened, is_real=hangs)
    change(standby, "synchronized_standby_slots", "nobody")
    hangs = waits(pair, "stale")
    happened = "its consumer hangs without an error" if hangs else "its consumer reads on"
    situation = "synchronized_standby_slots of the standby names a slot that no node uses"
    pair.expect_problem(situation, "standby_slot_unused", happened, is_real=hangs)
    change(standby, "synchronized_standby_slots", "")
    pair.expect_slot("a failover slot whose copy nothing keeps in step", "stale")
    pair.expect_slot("a failover slot created while sync_replication_slots is off", "too_late")


def invalidated_slots(pair: Switchover) -> None:
    """The copy of a slot lost its rows, a slot of the standby's own as well, and a slot of the primary its WAL."""
    pair.stack.start_databases()
    primary, standby = pair.primary, pair.standby
    for slot in ("rows_lost", "wal_lost"):
        pair.create(slot)
    pair.create_on_standby("own_lost")
    pair.synchronise("rows_lost", "wal_lost")
    change(standby, "hot_standby_feedback", "off")
    wait_for(lambda: not standby.sql(WORKER), "the worker has ended")

    def removed() -> bool:
        """Until the standby has withdrawn its feedback, and no slot of the primary holds the rows."""
        primary.sql("CREATE TABLE passing (id int)")
        primary.sql("DROP TABLE passing")
        pair.read_record("rows_lost", "wal_lost")
        primary.sql("VACUUM pg_catalog.pg_class")
        primary.wait_until_replayed(standby)
        query = "SELECT count(*) FROM pg_replication_slots WHERE invalidation_reason = 'rows_removed'"
        return standby.sql(query) == [(3,)]

    wait_for(removed, "the rows are gone", 60)
    change(primary, "max_slot_wal_keep_size", "1MB")
    write_wal(primary, 3 * MORE_THAN_A_SEGMENT)
    pair.read_record("rows_lost")
    primary.wait_until_replayed(standby)
    primary.sql("CHECKPOINT")
    lost = "SELECT slot_name FROM pg_replication_slots WHERE wal_status = 'lost'"
    wait_for(lambda: primary.sql(lost) == [("wal_lost",)], "the slot is lost")
    pair.rehearse()
    pair.stop_primary()
    standby.promote()
    pair.insert(standby, 5)
    pair.expect_slot("a failover slot whose copy lost its rows", "rows_lost")
    pair.expect_slot("a slot of the standby itself that lost its rows", "own_lost")
    pair.expect_slot("a slot of the primary that lost its WAL", "wal_lost")


SCENES: tuple[Scene, ...] = (
    slots_of_every_kind,
    names_taken,
    nothing_keeps_the_copy,
    three_nodes,
    wal_level,
    raised_wal_level,
    invalidated_slots,
    few_walsenders,
)


def play(scene: Scene, major: int) -> Switchover:
    """Play a scene on servers of this version; return the switchover with its rows."""
    with Stack(major=major) as stack:
        pair = Switchover(stack)
        scene(pair)
        return pair

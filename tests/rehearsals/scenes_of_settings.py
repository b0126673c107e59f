"""Situations that follow from settings, and from the other nodes of the cluster."""

import contextlib

import psycopg

from tests.rehearsals.steps import in_use, waits, walsender
from tests.rehearsals.switchover import Switchover
from tests.support.failover_slots import WORKER
from tests.support.servers.processes import wait_for


def three_nodes(pair: Switchover) -> None:
    """Too few slots, a second standby, and an old primary that comes back as a standby."""
    pair.stack.start_databases()
    primary, standby = pair.primary, pair.standby
    third = primary.standby("third")
    pair.stack.cleanup.callback(third.stop)
    pair.nodes.append(third)
    for setting, value in (("primary_slot_name", "primary"), ("sync_replication_slots", "on")):
        primary.sql(f"ALTER SYSTEM SET {setting} = '{value}'")
    primary.sql("SELECT pg_catalog.pg_reload_conf()")
    standby.sql("SELECT pg_catalog.pg_create_physical_replication_slot('primary', true)")
    standby.configure({"max_replication_slots": "2", "synchronized_standby_slots": "'primary'"})
    standby.restart()
    pair.create("a")
    pair.synchronise("a")
    pair.create("b")
    pair.insert(primary, 5)
    wait_for(lambda: not standby.sql(WORKER), "the worker has failed", 60)
    pair.rehearse()
    pair.stop_primary()
    standby.promote()
    pair.insert(standby, 5)
    full = not standby.sql("SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = 'b'")
    happened = "a slot was not copied" if full else "every slot was copied"
    pair.expect_problem("max_replication_slots of the standby is too low", "no_free_slot", happened, is_real=full)
    third.configure({"primary_conninfo": f"'{standby.conninfo()}'"})
    third.restart()
    missing = wait_for(
        lambda: 'slot "third" does not exist' in third.process.log.read_text("utf-8", "replace"), "it fails"
    )
    situation = "primary_slot_name of another standby is not on the new primary"
    pair.expect_problem(situation, "primary_slot_missing", "it does not stream", is_real=bool(missing))
    hangs = waits(pair, "a")
    primary.demote(standby)
    wait_for(lambda: in_use(standby, "primary"), "the old primary streams")
    wait_for(lambda: not waits(pair, "a"), "the consumer reads on")
    situation = "synchronized_standby_slots names the slot of the old primary"
    happened = "the consumer hangs until the old primary streams" if hangs else "the consumer reads on at once"
    pair.expect_problem(situation, "waits_for_standby", happened, is_real=hangs)

    def fails() -> bool:
        return "already exists" in primary.process.log.read_text("utf-8", "replace")

    wait_for(fails, "the worker of the old primary stops at the slot", 60)
    own = primary.sql("SELECT synced FROM pg_catalog.pg_replication_slots WHERE slot_name = 'a'")
    situation, happened = "failover slots that the old primary keeps", "its worker stops at the first of them"
    pair.expect_problem(situation, "leftover", happened, is_real=own == [(False,)])


def wal_level(pair: Switchover) -> None:
    """The standby has wal_level = replica, which makes a difference up to 18."""
    pair.stack.start_databases()
    primary, standby = pair.primary, pair.standby
    standby.configure({"wal_level": "replica"})
    standby.restart()
    pair.create("cdc")
    pair.insert(primary, 5)
    if pair.stack.major >= 19:
        pair.synchronise("cdc")
    else:
        standby.sql("ALTER SYSTEM SET sync_replication_slots = on")
        standby.sql("SELECT pg_catalog.pg_reload_conf()")
    pair.rehearse()
    pair.stop_primary()
    standby.promote()
    pair.insert(standby, 5)
    pair.expect_slot("a failover slot, and wal_level = replica on the standby", "cdc")
    if pair.stack.major < 19:
        try:
            standby.sql("SELECT pg_catalog.pg_create_logical_replication_slot('again', 'test_decoding')")
        except psycopg.errors.ObjectNotInPrerequisiteState:
            refused = True
        else:
            refused = False
        happened = "no logical slot can be created" if refused else "a logical slot can be created"
        pair.expect_problem("wal_level = replica on the standby", "wal_level", happened, is_real=refused)


def raised_wal_level(pair: Switchover) -> None:
    """Both servers have wal_level = replica, which 19 raises while there is a logical slot."""
    if pair.stack.major < 19:
        return
    pair.stack.start_databases(wal_level="replica")
    pair.create("cdc")
    pair.insert(pair.primary, 5)
    pair.synchronise("cdc")
    pair.rehearse()
    pair.stop_primary()
    pair.standby.promote()
    pair.insert(pair.standby, 5)
    pair.expect_slot("a failover slot, and wal_level = replica on both servers", "cdc")


def few_walsenders(pair: Switchover) -> None:
    """Consumers of both servers together, and the old primary, need more walsenders than one server allows."""
    pair.stack.start_databases(max_wal_senders="4")
    primary, standby = pair.primary, pair.standby
    standby.sql("SELECT pg_catalog.pg_create_physical_replication_slot('primary', true)")
    with contextlib.ExitStack() as consumers:
        for _ in range(2):
            consumers.enter_context(walsender(standby))
        with contextlib.ExitStack() as consumers_of_primary:
            for _ in range(2):
                consumers_of_primary.enter_context(walsender(primary))
            pair.rehearse()
        pair.stop_primary()
        standby.promote()
        for _ in range(2):
            consumers.enter_context(walsender(standby))
        primary.demote(standby)
        refused = 'exceeds "max_wal_senders"', "exceeds max_wal_senders"
        wait_for(
            lambda: any(text in primary.process.log.read_text("utf-8", "replace") for text in refused),
            "the old primary is refused",
        )
        streams = in_use(standby, "primary")
    happened = "the old primary streams" if streams else "the old primary is refused"
    pair.expect_problem("max_wal_senders of the standby is too low", "few_wal_senders", happened, is_real=not streams)

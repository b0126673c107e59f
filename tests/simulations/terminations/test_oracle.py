"""The oracle of the judge on real servers: which transactions hold a slot, read from WAL."""

import random
import re
import subprocess

from tests.simulations.terminations import oracle
from tests.simulations.terminations.scenarios import FOREIGN, LOGGED, SET_UP, WRITES, Scene
from tests.support.blocking_transactions import set_up_roles
from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import Stack
from tests.support.servers.wal import WalRecord, records_between

_XIDS = re.compile(r"tx:\s+(\d+), lsn: (\w+)/(\w+),.*?(?:; \d+ xacts: ([\d ]+)|$)", re.MULTILINE)


def read(server: Postgres, start: int) -> list[WalRecord]:
    server.sql("SELECT pg_catalog.pg_switch_wal()")
    end = server.lsn("pg_catalog.pg_current_wal_lsn()")
    return list(records_between(start, end, server.data_folder / "pg_wal", timeline=1))


def test_transactions_that_wrote_wal_hold_the_slot_and_those_with_an_xid_alone_do_not(databases: Stack) -> None:
    primary = databases.primary
    set_up_roles(primary)
    primary.sql(SET_UP)
    scene = Scene(primary, random.Random(1), "read")
    primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('read', 'test_decoding')")
    force = "SELECT pg_catalog.pg_log_standby_snapshot()"
    read_all = "SELECT count(*) FROM pg_catalog.pg_logical_slot_get_changes('read', NULL, NULL)"
    try:
        primary.sql(force)
        first = [scene.open(kind=kind) for kind in WRITES]
        primary.sql(force)
        second = scene.open(FOREIGN, "table")
        for _ in range(2):
            primary.sql(force)
            primary.sql("SELECT pg_catalog.pg_switch_wal()")
            primary.sql(read_all)
        at = oracle.observe(primary, "read")
        assert at.restart is not None
        held_by = oracle.holders(records := read(primary, at.restart), at.restart)
        of_scene = {session.xid: session.kind for session in scene.sessions}
        assert sorted(of_scene[xid] for xid in held_by if xid in of_scene) == sorted(LOGGED)
        assert at.open_xids >= {session.xid for session in scene.sessions}
        # Several could be the cause: nothing is proven of any of them.
        assert oracle.unproven(records, at, first[0].xid, 0) is not None
        for session in first:
            scene.end(session)
        # Twice: a record is not offered while an earlier one still waits for its confirmation.
        for _ in range(2):
            primary.sql(force)
            primary.sql("SELECT pg_catalog.pg_switch_wal()")
            primary.sql(read_all)
        at = oracle.observe(primary, "read")
        assert at.restart is not None
        records = read(primary, at.restart)
        assert second.xid in oracle.holders(records, at.restart)
    finally:
        for session in scene.sessions:
            scene.end(session)
        primary.drop_slot("read")


def test_records_are_those_that_pg_waldump_prints(databases: Stack) -> None:
    primary = databases.primary
    primary.sql(SET_UP)
    start = primary.lsn("pg_catalog.pg_log_standby_snapshot()")
    scene = Scene(primary, random.Random(1), "none")
    set_up_roles(primary)
    for kind in LOGGED:
        scene.open(kind=kind)
    primary.sql("CHECKPOINT")
    for session in scene.sessions:
        scene.end(session)
    records = read(primary, start)
    program = primary.binaries.tools / "pg_waldump"
    end = records[-1].lsn
    arguments = [f"--start=0/{start:X}", f"--end=0/{end:X}", f"--path={primary.data_folder / 'pg_wal'}"]
    printed = subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout
    expected = [
        (int(high, 16) << 32 | int(low, 16), int(xid), frozenset(map(int, xacts.split())) if xacts else None)
        for xid, high, low, xacts in _XIDS.findall(printed)
    ]
    found = [(record.lsn, record.xid, record.running or None) for record in records if record.lsn < end]
    assert len(found) > 20
    assert found == expected

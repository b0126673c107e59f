"""The series of the WAL directory on real servers: the bytes add up, and each holder is the one that was made one."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from exporter.wal_series import volume_series
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerSettings, Node, WalVolume
from tests.support import in_process
from tests.support.scrapes import PRIMARY, STANDBY, Client, Metrics, config_reloader, get_metrics, scrape, scrape_until
from tests.support.servers.conditions import changed_settings
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import EXPORTER_ROLE, POWERLESS_ROLE, Stack

MB = 2**20
SEGMENT = 16 * MB
HeldBytes = dict[tuple[str, str], float]
"""By holder and slot."""


@pytest.fixture(scope="module")
def archiving() -> Iterator[Stack]:
    """A primary whose archiver fails, and its standby, which has the same settings and archives nothing."""
    with Stack() as stack:
        stack.start_databases(archive_mode="on", archive_command="'false'", max_slot_wal_keep_size="-1")
        yield stack


@asynccontextmanager
async def exporter(*conninfos: str, interval: float = 0.0) -> AsyncIterator[Client]:
    """An exporter that lists WAL directories with every scrape, unless the interval is longer."""
    app = application(config_reloader(*conninfos), listing_interval=interval)
    async with TestClient(TestServer(app)) as client:
        yield client


def both(stack: Stack, role: str = EXPORTER_ROLE) -> tuple[str, str]:
    return stack.primary.conninfo(role), stack.standby.conninfo(role)


def write_segments(server: Postgres, count: int) -> None:
    for _ in range(count):
        server.sql("SELECT pg_catalog.pg_logical_emit_message(false, 'test', 'something to switch away from')")
        server.sql("SELECT pg_catalog.pg_switch_wal()")


def wait_until_others_have_passed(server: Postgres) -> None:
    """Wait until neither the archiver nor the standby holds a segment that is older than the last checkpoint."""
    waiting = (
        "SELECT name FROM pg_catalog.pg_ls_archive_statusdir() WHERE name LIKE '%.ready' UNION ALL"
        " SELECT slot_name FROM pg_catalog.pg_replication_slots, pg_catalog.pg_control_checkpoint()"
        " WHERE slot_name = 'standby' AND restart_lsn < redo_lsn"
    )
    wait_for(lambda: not server.sql(waiting), "all is archived and streamed", 90)


def held(metrics: Metrics, node: str) -> HeldBytes:
    """Return bytes by holder and slot, after a check that they add up."""
    found = metrics.found("pgslot_wal_held_bytes", node=node)
    result = {(labels["holder"], labels["slot_name"]): value for labels, value in found}
    assert sum(result.values()) == metrics.value("pgslot_wal_directory_bytes", node=node)
    assert min(result.values()) >= 0
    return result


async def held_when(client: Client, condition: Callable[[HeldBytes], bool]) -> HeldBytes:
    """Scrape until the primary's holders are so: on a slow machine a listing is repeated later."""
    return held(await scrape_until(client, lambda metrics: condition(held(metrics, PRIMARY)), 60), PRIMARY)


async def test_bytes_add_up_to_what_a_superuser_sees(archiving: Stack) -> None:
    servers = {PRIMARY: archiving.primary, STANDBY: archiving.standby}

    def shows_all_files(metrics: Metrics) -> bool:
        size = "SELECT sum(size)::float8 FROM pg_catalog.pg_ls_waldir()"
        return all(
            server.sql(size) == [(metrics.value("pgslot_wal_directory_bytes", node=node),)]
            for node, server in servers.items()
        )

    async with exporter(*both(archiving)) as client:
        # A server that has just started may add a file between the two.
        metrics = await scrape_until(client, shows_all_files)
    for node, server in servers.items():
        assert held(metrics, node)
        [(at, size)] = server.sql(
            "SELECT extract(epoch FROM checkpoint_time)::float8,"
            " pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_wal_size'))"
            " FROM pg_catalog.pg_control_checkpoint()"
        )
        assert metrics.value("pgslot_last_checkpoint_timestamp_seconds", node=node) == at
        assert metrics.value("pgslot_max_wal_size_bytes", node=node) == size


async def test_archiver_that_fails_holds_what_is_not_archived(archiving: Stack) -> None:
    primary = archiving.primary
    write_segments(primary, 6)
    primary.sql("CHECKPOINT")
    failed = "SELECT failed_count FROM pg_catalog.pg_stat_archiver WHERE failed_count > 0"
    wait_for(lambda: primary.sql(failed), "the archiver has failed")
    async with exporter(*both(archiving)) as client:
        metrics = await scrape_until(
            client, lambda metrics: metrics.value("pgslot_archiver_failing", node=PRIMARY) == 1
        )
        assert held(metrics, PRIMARY)["archiver", ""] >= 5 * SEGMENT
        assert (metrics.value("pgslot_archive_ready_files", node=PRIMARY) or 0) >= 6
        assert (metrics.value("pgslot_archiver_failed_total", node=PRIMARY) or 0) >= 1
        assert metrics.value("pgslot_archiver_last_archived_timestamp_seconds", node=PRIMARY) is None
        # A standby with archive_mode = on archives nothing.
        for name in ("archiver_failing", "archive_ready_files", "archiver_failed_total"):
            assert metrics.value(f"pgslot_{name}", node=STANDBY) is None
        assert ("archiver", "") not in held(metrics, STANDBY)
        with changed_settings(primary, archive_command="true"):
            metrics = await scrape_until(
                client, lambda metrics: metrics.value("pgslot_archive_ready_files", node=PRIMARY) == 0, 90
            )
            assert metrics.value("pgslot_archiver_failing", node=PRIMARY) == 0
            assert held(metrics, PRIMARY)["archiver", ""] == 0
            archived_at = metrics.value("pgslot_archiver_last_archived_timestamp_seconds", node=PRIMARY)
            assert archived_at == pytest.approx(time.time(), abs=60)
        with changed_settings(primary, archive_command=""):
            # Without a command nothing fails, and nothing is archived.
            await scrape_until(client, lambda metrics: metrics.value("pgslot_archiver_failing", node=PRIMARY) == 1)


async def test_slots_and_wal_keep_size_hold_by_their_positions(archiving: Stack) -> None:
    primary = archiving.primary
    with changed_settings(primary, archive_command="true"):
        primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('far', 'pgoutput')")
        write_segments(primary, 4)
        # A physical slot begins where the last checkpoint did.
        primary.sql("CHECKPOINT")
        primary.sql("SELECT pg_catalog.pg_create_physical_replication_slot('near', true)")
        write_segments(primary, 3)
        try:
            primary.sql("CHECKPOINT")
            wait_until_others_have_passed(primary)
            async with exporter(*both(archiving)) as client:
                parts = held(Metrics(await scrape(client)), PRIMARY)
                assert (parts["slot", "far"], parts["slot", "near"]) == (4 * SEGMENT, 3 * SEGMENT)
                primary.drop_slot("far")
                write_segments(primary, 1)
                primary.sql("CHECKPOINT")
                wait_until_others_have_passed(primary)
                parts = await held_when(client, lambda parts: ("slot", "far") not in parts)
                assert parts["slot", "near"] == 4 * SEGMENT
                with changed_settings(primary, wal_keep_size="1GB"):
                    parts = await held_when(client, lambda parts: ("wal_keep_size", "") in parts)
                    # It reaches back beyond the slot, to all that is there.
                    assert parts["slot", "near"] == 4 * SEGMENT
                    assert parts["wal_keep_size", ""] >= 0
                    write_segments(primary, 2)
                    primary.drop_slot("near")
                    primary.sql("CHECKPOINT")
                    wait_until_others_have_passed(primary)
                    parts = await held_when(client, lambda parts: ("slot", "near") not in parts)
                    assert parts["wal_keep_size", ""] >= 6 * SEGMENT
        finally:
            for slot in ("far", "near"):
                if primary.sql("SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s", [slot]):
                    primary.drop_slot(slot)


async def test_role_without_the_privilege_has_no_series_and_a_status(
    archiving: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    log = archiving.primary.process.log
    size = log.stat().st_size
    archiving.primary.sql(f"GRANT pg_read_all_stats, pg_read_all_settings TO {POWERLESS_ROLE}")
    try:
        async with exporter(archiving.primary.conninfo(POWERLESS_ROLE)) as client:
            for _ in range(2):
                metrics = Metrics(await scrape(client))
        for name in ("wal_directory_bytes", "wal_held_bytes", "archive_ready_files"):
            assert metrics.found(f"pgslot_{name}") == []
        status = {
            probe: metrics.state("pgslot_probe_status", "status", probe=probe)
            for probe in ("node", "wal_facts", "wal_directory", "archive_status", "checkpoint")
        }
        assert status == {
            "node": "ok",
            "wal_facts": "ok",
            "wal_directory": "permission_denied",
            "archive_status": "permission_denied",
            "checkpoint": "ok",
        }
        # Everybody may see these.
        assert metrics.value("pgslot_archiver_failing") is not None
        assert metrics.value("pgslot_last_checkpoint_timestamp_seconds") is not None
        assert "permission denied" not in log.read_bytes()[size:].decode()
        said = [record for record in caplog.records if "pg_ls_waldir" in str(record.__dict__)]
        assert len(said) == 2, "once for each probe, not with every scrape"
        archiving.primary.sql(f"GRANT pg_monitor TO {POWERLESS_ROLE}")
        async with exporter(archiving.primary.conninfo(POWERLESS_ROLE)) as client:
            assert held(Metrics(await scrape(client)), PRIMARY)
    finally:
        archiving.primary.sql(f"REVOKE pg_monitor, pg_read_all_stats, pg_read_all_settings FROM {POWERLESS_ROLE}")


async def test_scrapes_between_two_listings_show_the_last_one_and_ask_nothing(
    archiving: Stack,
) -> None:
    async with exporter(*both(archiving), interval=3600.0) as client:
        before = Metrics(await scrape(client))
        write_segments(archiving.primary, 3)
        after = Metrics(await scrape(client))
        assert held(after, PRIMARY) == held(before, PRIMARY)
        parts = await get_metrics(client, "/metrics?collect[]=wal_directory")
        assert held(parts, PRIMARY) == held(before, PRIMARY)
        assert parts.found("pgslot_replication_slots") == []
        assert (await get_metrics(client, "/metrics?collect[]=node")).found("pgslot_wal_directory_bytes") == []


async def test_listing_that_hangs_costs_a_scrape_nothing_else(archiving: Stack) -> None:
    """As on a disk that answers slowly: here the checkpoint's file cannot be read, as the function is replaced."""
    primary = archiving.primary
    slow = (
        "ALTER FUNCTION pg_catalog.pg_control_checkpoint() RENAME TO pg_control_checkpoint_builtin",
        "CREATE FUNCTION pg_catalog.pg_control_checkpoint(OUT redo_lsn pg_lsn, OUT checkpoint_time timestamptz)"
        " LANGUAGE sql AS 'SELECT ''0/0''::pg_lsn, now() FROM pg_sleep(60)'",
    )
    restored = (
        "DROP FUNCTION pg_catalog.pg_control_checkpoint()",
        "ALTER FUNCTION pg_catalog.pg_control_checkpoint_builtin() RENAME TO pg_control_checkpoint",
    )
    primary.sql_in_one_transaction("SET LOCAL allow_system_table_mods = on", *slow)
    try:
        async with exporter(primary.conninfo(EXPORTER_ROLE)) as client:
            began = time.monotonic()
            patient, hurried = map(Metrics, await asyncio.gather(scrape(client), scrape(client, timeout=2)))
            assert time.monotonic() - began < 8
            for metrics in (patient, hurried):
                assert metrics.value("pgslot_up") == 1
                assert metrics.state("pgslot_probe_status", "status", probe="slots") == "ok"
            assert patient.state("pgslot_probe_status", "status", probe="checkpoint") == "timeout"
    finally:
        primary.sql_in_one_transaction("SET LOCAL allow_system_table_mods = on", *restored)
    async with exporter(primary.conninfo(EXPORTER_ROLE)) as client:
        assert held(Metrics(await scrape(client)), PRIMARY)


@pytest.mark.parametrize("interval", ["0s", "500ms", "61m", "soon", ""])
def test_interval_of_listings_is_between_a_second_and_an_hour(interval: str) -> None:
    done = in_process.run("pg-slot-exporter", "--conninfo=host=x", f"--wal.listing-interval={interval}", "--check")
    expected = f"--wal.listing-interval: expected a duration of 1s to 1h, found {interval!r}\n"
    assert (done.returncode, done.stderr) == (2, f"pg-slot-exporter: {expected}")


VOLUMES = Config(
    (
        Cluster(
            "a",
            (
                Node("a", "n1", Conninfo("host=x"), WalVolume(2**30, filesystem=("db1:9100", "/pgdata"))),
                Node("a", "n2", Conninfo("host=x")),
            ),
            None,
        ),
        Cluster("b", (Node("b", "n1", Conninfo("host=x"), WalVolume(claim=("shop", "pgdata-0"))),), None),
    ),
    HealerSettings(),
)
SIZE = 'pgslot_wal_volume_size_bytes{cluster="a",node="n1"} 1073741824\n'
FILESYSTEM = (
    'pgslot_wal_volume_filesystem_info{cluster="a",node="n1",'
    'volume_instance="db1:9100",volume_mountpoint="/pgdata"} 1\n'
)
CLAIM = 'pgslot_wal_volume_claim_info{cluster="b",node="n1",volume_namespace="shop",volume_claim="pgdata-0"} 1\n'


@pytest.mark.parametrize(
    ("of", "lines"),
    [((), SIZE + FILESYSTEM + CLAIM), (("a", "n1"), SIZE + FILESYSTEM), (("a", "n2"), ""), (("b", "n1"), CLAIM)],
)
def test_configured_volumes_are_series(of: tuple[str, ...], lines: str) -> None:
    assert b"".join(block.lines() for block in volume_series(VOLUMES, *of)).decode() == lines

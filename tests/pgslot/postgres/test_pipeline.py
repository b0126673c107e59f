"""Statements straight through libpq's pipeline, on a real server."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import psycopg
import pytest

from pgslot.postgres.connect import connect
from pgslot.postgres.pipeline import FLUSH_ROWS, MAX_PREPARED, Pipeline, Statement
from tests.support.running_healer import until
from tests.support.servers.stack import EXPORTER_ROLE, Stack


class Row(NamedTuple):
    value: Any


class Opened(NamedTuple):
    connection: psycopg.AsyncConnection[Any]
    trips: Pipeline


@pytest.fixture
async def opened(databases: Stack) -> AsyncIterator[Opened]:
    connection = await connect(
        databases.primary.conninfo(EXPORTER_ROLE), 10, application_name="roundtrip", client_encoding="UTF8"
    )
    yield Opened(connection, Pipeline(connection))
    await connection.close()


def shown(expression: str, *parameters: str) -> Statement:
    return Statement(f"SELECT {expression} AS value", Row, parameters)


async def prepared(trips: Pipeline) -> int:
    [[row]] = await trips.execute([shown("(SELECT count(*) FROM pg_prepared_statements)")])
    return int(row.value)


async def test_each_type_of_our_queries_is_read(opened: Opened) -> None:
    meant = {
        "NULL::text": None,
        "'text'::text": "text",
        "'name'::name": "name",
        "true": True,
        "-7::int4": -7,
        "9223372036854775807::int8": 2**63 - 1,
        "0.1::float8": 0.1,
        "'NaN'::float8": pytest.approx(float("nan"), nan_ok=True),
        "ARRAY[1, 2]::int4[]": [1, 2],
        "$1": "a parameter",
    }
    statements = [shown(each, *(["a parameter"] if each == "$1" else [])) for each in meant]
    for prepare in (False, True, True):
        rows = await opened.trips.execute(statements, prepare=prepare)
        assert [row.value for [row] in rows] == list(meant.values())


async def test_prepared_is_each_statement_once_and_no_more_of_them_than_is_sensible(opened: Opened) -> None:
    for _ in range(3):
        assert await opened.trips.execute([shown("1"), shown("2"), shown("1")], prepare=True) == [
            [(1,)],
            [(2,)],
            [(1,)],
        ]
    assert await prepared(opened.trips) == 2 + 1  # one of them twice in the trip in which it was not known yet
    await opened.trips.execute([shown(f"{number}") for number in range(2 * MAX_PREPARED)], prepare=True)
    rows = await opened.trips.execute([shown(f"{number}") for number in range(2 * MAX_PREPARED)], prepare=True)
    assert [row.value for [row] in rows] == list(range(2 * MAX_PREPARED))


async def test_the_first_failure_is_told_and_the_next_trip_works(opened: Opened) -> None:
    failing = [shown("1"), shown("1 / 0"), shown("nothing_of_the_kind")]
    for prepare in (True, False, True):
        with pytest.raises(psycopg.errors.DivisionByZero):
            await opened.trips.execute(failing, prepare=prepare)
        with pytest.raises(psycopg.errors.UndefinedColumn):
            await opened.trips.execute(failing[::-1], prepare=prepare)
        assert await opened.trips.execute([shown("1")], prepare=prepare) == [[(1,)]]


async def test_one_trip_is_one_transaction(opened: Opened) -> None:
    first, second = await opened.trips.execute([shown("pg_catalog.now()::text")] * 2)
    assert first == second
    with pytest.raises(psycopg.errors.DivisionByZero):
        await opened.trips.execute([shown("pg_catalog.set_config('work_mem', '77kB', false)"), shown("1 / 0")])
    assert await opened.trips.execute([shown("pg_catalog.current_setting('work_mem') = '77kB'")]) == [[(False,)]]


async def test_columns_of_another_name_are_an_error_and_not_a_row(opened: Opened) -> None:
    with pytest.raises(psycopg.ProgrammingError, match="Row: expected the columns"):
        await opened.trips.execute([Statement("SELECT 1 AS other", Row), shown("2")])
    assert await opened.trips.execute([shown("1")]) == [[(1,)]]


async def test_much_is_sent_and_much_comes_back(opened: Opened) -> None:
    """More than any socket's buffer holds, both ways at once."""
    large = "x" * 8_000_000
    rows = await opened.trips.execute([shown("$1::text", large), shown("pg_catalog.repeat('y', 8000000)")])
    assert [len(row.value) for [row] in rows] == [8_000_000, 8_000_000]


async def test_rows_of_a_large_answer_are_made_while_the_server_is_at_the_next_statement(
    opened: Opened, databases: Stack
) -> None:
    """Known by what it was in the trip before; a small one comes with the others at the end."""
    made: list[int] = []

    @dataclass
    class Seen:
        value: int

        def __post_init__(self) -> None:
            made.append(self.value)

    def all_made(count: int) -> bool:
        return len(made) == count

    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    for count, told_before in (
        (FLUSH_ROWS, False),
        (FLUSH_ROWS, True),
        (FLUSH_ROWS - 1, True),
        (FLUSH_ROWS - 1, False),
    ):
        made.clear()
        numbers = Statement("SELECT pg_catalog.generate_series(1, $1::int4) AS value", Seen, (str(count),))
        with psycopg.connect(databases.primary.conninfo()) as holder:
            holder.execute("SELECT pg_catalog.pg_advisory_xact_lock(4711)")
            trip = asyncio.create_task(opened.trips.execute([numbers, shown("pg_advisory_xact_lock(4711) IS NULL")]))
            await until(lambda: databases.primary.sql(waiting) == [(1,)], "the second statement waits", 10)
            if told_before:
                await until(partial(all_made, count), "the rows of the first are made", 10)
            assert bool(made) is told_before
        await asyncio.wait_for(trip, 10)
        assert made == list(range(1, count + 1))


async def test_what_the_server_says_before_it_hangs_up_is_told(opened: Opened, databases: Stack) -> None:
    trip = asyncio.create_task(opened.trips.execute([shown("1"), shown("pg_catalog.pg_sleep(60)::text")]))
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'roundtrip' AND query ~ %s"
    await until(lambda: bool(databases.primary.sql(query, ["sleep"])), "it is ended", 10)
    with pytest.raises(psycopg.errors.AdminShutdown):
        await asyncio.wait_for(trip, 10)
    assert opened.connection.closed

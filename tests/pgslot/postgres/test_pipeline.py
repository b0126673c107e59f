"""Statements in libpq's pipeline mode, on a real server."""

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
    pipeline: Pipeline


@pytest.fixture
async def opened(databases: Stack) -> AsyncIterator[Opened]:
    connection = await connect(
        databases.primary.conninfo(EXPORTER_ROLE), 10, application_name="roundtrip", client_encoding="UTF8"
    )
    yield Opened(connection, Pipeline(connection))
    await connection.close()


def shown(expression: str, *parameters: str) -> Statement:
    return Statement(f"SELECT {expression} AS value", Row, parameters)


async def prepared(pipeline: Pipeline) -> int:
    [[row]] = await pipeline.execute([shown("(SELECT count(*) FROM pg_prepared_statements)")])
    return int(row.value)


async def test_every_type_that_our_queries_return_is_converted(opened: Opened) -> None:
    values = {
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
    statements = [shown(expression, *(["a parameter"] if expression == "$1" else [])) for expression in values]
    for prepare in (False, True, True):
        rows = await opened.pipeline.execute(statements, prepare=prepare)
        assert [row.value for [row] in rows] == list(values.values())


async def test_a_statement_is_prepared_once_and_their_number_is_limited(opened: Opened) -> None:
    for _ in range(3):
        assert await opened.pipeline.execute([shown("1"), shown("2"), shown("1")], prepare=True) == [
            [(1,)],
            [(2,)],
            [(1,)],
        ]
    assert await prepared(opened.pipeline) == 2 + 1  # `SELECT 1` twice in the round trip in which it was new
    await opened.pipeline.execute([shown(f"{number}") for number in range(2 * MAX_PREPARED)], prepare=True)
    rows = await opened.pipeline.execute([shown(f"{number}") for number in range(2 * MAX_PREPARED)], prepare=True)
    assert [row.value for [row] in rows] == list(range(2 * MAX_PREPARED))


async def test_the_first_error_is_raised_and_the_next_round_trip_works(opened: Opened) -> None:
    failing = [shown("1"), shown("1 / 0"), shown("nothing_of_the_kind")]
    for prepare in (True, False, True):
        with pytest.raises(psycopg.errors.DivisionByZero):
            await opened.pipeline.execute(failing, prepare=prepare)
        with pytest.raises(psycopg.errors.UndefinedColumn):
            await opened.pipeline.execute(failing[::-1], prepare=prepare)
        assert await opened.pipeline.execute([shown("1")], prepare=prepare) == [[(1,)]]


async def test_one_round_trip_is_one_transaction(opened: Opened) -> None:
    first, second = await opened.pipeline.execute([shown("pg_catalog.now()::text")] * 2)
    assert first == second
    with pytest.raises(psycopg.errors.DivisionByZero):
        await opened.pipeline.execute([shown("pg_catalog.set_config('work_mem', '77kB', false)"), shown("1 / 0")])
    assert await opened.pipeline.execute([shown("pg_catalog.current_setting('work_mem') = '77kB'")]) == [[(False,)]]


async def test_columns_with_other_names_than_the_row_type_are_an_error(opened: Opened) -> None:
    with pytest.raises(psycopg.ProgrammingError, match="Row: expected the columns"):
        await opened.pipeline.execute([Statement("SELECT 1 AS other", Row), shown("2")])
    assert await opened.pipeline.execute([shown("1")]) == [[(1,)]]


async def test_parameters_and_results_may_be_larger_than_socket_buffers(opened: Opened) -> None:
    large = "x" * 8_000_000
    rows = await opened.pipeline.execute([shown("$1::text", large), shown("pg_catalog.repeat('y', 8000000)")])
    assert [len(row.value) for [row] in rows] == [8_000_000, 8_000_000]


async def test_rows_of_a_large_result_are_converted_while_the_server_runs_the_next_statement(
    opened: Opened, databases: Stack
) -> None:
    """A result is large if it was large in the round trip before; small ones come with the others at the end."""
    converted: list[int] = []

    @dataclass
    class Recorded:
        value: int

        def __post_init__(self) -> None:
            converted.append(self.value)

    def all_converted(count: int) -> bool:
        return len(converted) == count

    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    for count, early in (
        (FLUSH_ROWS, False),
        (FLUSH_ROWS, True),
        (FLUSH_ROWS - 1, True),
        (FLUSH_ROWS - 1, False),
    ):
        converted.clear()
        numbers = Statement("SELECT pg_catalog.generate_series(1, $1::int4) AS value", Recorded, (str(count),))
        with psycopg.connect(databases.primary.conninfo()) as holder:
            holder.execute("SELECT pg_catalog.pg_advisory_xact_lock(4711)")
            trip = asyncio.create_task(opened.pipeline.execute([numbers, shown("pg_advisory_xact_lock(4711) IS NULL")]))
            await until(lambda: databases.primary.sql(waiting) == [(1,)], "the second statement waits", 10)
            if early:
                await until(partial(all_converted, count), "the rows of the first are converted", 10)
            assert bool(converted) is early
        await asyncio.wait_for(trip, 10)
        assert converted == list(range(1, count + 1))


async def test_the_error_that_the_server_sends_before_it_closes_the_connection_is_raised(
    opened: Opened, databases: Stack
) -> None:
    trip = asyncio.create_task(opened.pipeline.execute([shown("1"), shown("pg_catalog.pg_sleep(60)::text")]))
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'roundtrip' AND query ~ %s"
    await until(lambda: bool(databases.primary.sql(query, ["sleep"])), "it is terminated", 10)
    with pytest.raises(psycopg.errors.AdminShutdown):
        await asyncio.wait_for(trip, 10)
    assert opened.connection.closed

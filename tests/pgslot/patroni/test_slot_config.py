"""Which slots Patroni creates, keeps and drops, by its answers to GET /config and GET /patroni."""

from typing import Any

import pytest

from pgslot.config.model import PatroniConfig
from pgslot.diagnosis.switchover_facts import PatroniSlots, SlotMatcher
from pgslot.patroni.client import NoAnswerError
from pgslot.patroni.slot_config import fetch_slot_config, parse_slot_config
from tests.support.builders.snapshots import SLOT
from tests.support.fakes.patroni import Api, apis

STATUS = {"patroni": {"version": "4.1.5", "scope": "orders"}}
CDC = SlotMatcher("cdc", "logical", "app", "pgoutput")

CONFIGS: list[tuple[Any, PatroniSlots]] = [
    ({"ttl": 30}, PatroniSlots((4, 1, 5), True, (), ())),
    (
        {"slots": {"cdc": {"type": "logical", "database": "app", "plugin": "pgoutput"}}},
        PatroniSlots((4, 1, 5), True, (CDC,), ()),
    ),
    ({"slots": {"cdc": {"database": "app", "plugin": "pgoutput"}}}, PatroniSlots((4, 1, 5), True, (CDC,), ())),
    (
        {"permanent_slots": {"backup": None}, "slots": {"not": None}},
        PatroniSlots((4, 1, 5), True, (SlotMatcher("backup", "physical"),), ()),
    ),
    (
        {"ignore_slots": [{"type": "logical"}, {"name": "x", "plugin": ""}]},
        PatroniSlots((4, 1, 5), True, (), (SlotMatcher(None, "logical"), SlotMatcher("x", None))),
    ),
    ({"postgresql": {"use_slots": False}}, PatroniSlots((4, 1, 5), False, (), ())),
    ({"postgresql": {"use_slots": "off"}, "slots": None}, PatroniSlots((4, 1, 5), False, (), ())),
]


@pytest.mark.parametrize(("config", "expected"), CONFIGS)
def test_configuration_is_read_as_patroni_reads_it(config: Any, expected: PatroniSlots) -> None:
    assert parse_slot_config(config, STATUS) == expected


@pytest.mark.parametrize("status", [None, {}, {"patroni": {}}, {"patroni": {"version": 4}}, []])
def test_version_that_patroni_does_not_report_is_unknown(status: Any) -> None:
    assert parse_slot_config({}, status).version is None


@pytest.mark.parametrize("config", [None, [], {"slots": ["a"]}, {"ignore_slots": {"name": "a"}}])
def test_answer_that_patroni_cannot_have_sent_is_an_error(config: Any) -> None:
    with pytest.raises(ValueError, match="expected a mapping"):
        parse_slot_config(config, STATUS)


FAILOVER = SLOT._replace(failover=True)


@pytest.mark.parametrize(
    ("version", "slot", "drops"),
    [
        ((4, 1, 0), SLOT, True),
        ((4, 1, 0), FAILOVER, False),
        ((4, 0, 9), FAILOVER, True),
        (None, FAILOVER, None),
        (None, SLOT, True),
        ((4, 0, 9), SLOT._replace(slot_name="kept"), False),
        ((4, 0, 9), SLOT._replace(slot_name="cdc"), False),
        ((4, 0, 9), SLOT._replace(temporary=True), False),
    ],
)
def test_patroni_drops_what_it_does_not_know(version: Any, slot: Any, drops: bool | None) -> None:
    assert PatroniSlots(version, True, (CDC,), (SlotMatcher("kept", None),)).drops(slot) is drops


async def test_first_usable_answer_counts() -> None:
    silent, answers = Api(config=[]), Api(config={"ignore_slots": [{"name": "x"}]})
    async with apis(silent, answers) as urls:
        slots = await fetch_slot_config(PatroniConfig(("http://127.0.0.1:1", *urls)))
    assert slots.ignored == (SlotMatcher("x", None),)


async def test_error_names_each_url_and_why() -> None:
    async with apis(Api(config=[])) as [url]:
        with pytest.raises(NoAnswerError) as raised:
            await fetch_slot_config(PatroniConfig(("http://127.0.0.1:1", url)))
    assert "http://127.0.0.1:1/config: " in str(raised.value)
    assert f"{url}/config: expected a mapping, found none" in str(raised.value)

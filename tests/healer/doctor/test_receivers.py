"""Where receivers lead whose URLs Alertmanager hides: what the doctor says by what arrived, and what it does not."""

import time
from collections.abc import Iterable
from typing import Any

import pytest
import requests
from prometheus_client.samples import Sample

from healer.doctor.checks.healer import HealerSamples
from healer.doctor.checks.receivers import Destination, Evidence, Receiver, receivers_of, remembered
from tests.healer.doctor.test_canned_faults import (
    HEALED,
    HEARD,
    Change,
    Fault,
    both,
    broken,
    is_named,
    metric,
    moved,
    setting,
)
from tests.support.fakes.monitoring import HEALER, World

HERE = {"url": "http://healer:9878/alerts"}
CHAT = {"url": "http://chat/hook"}
SECRET = {"url": "<secret>"}


def receiver(*webhooks: dict[str, Any], arrives: bool | None = None) -> Receiver:
    data = {"receivers": [{"name": "r", "webhook_configs": list(webhooks)}]}
    return receivers_of(data, {"r": Evidence(arrives, "")})["r"]


LEADS = [
    ((), None, Destination.ELSEWHERE, 0),
    # A receiver of that name in another Alertmanager.
    ((), True, Destination.ELSEWHERE, 0),
    ((HERE,), None, Destination.HEALER, 1),
    ((HERE,), True, Destination.HEALER, 1),
    ((HERE,), False, Destination.ELSEWHERE, 1),
    ((CHAT,), None, Destination.ELSEWHERE, 1),
    # Behind a proxy that rewrites paths.
    ((CHAT,), True, Destination.HEALER, 1),
    ((SECRET,), None, Destination.UNKNOWN, 1),
    ((SECRET,), True, Destination.HEALER, 1),
    ((SECRET,), False, Destination.ELSEWHERE, 1),
    (({"url_file": "/run/url"},), None, Destination.UNKNOWN, 1),
    (({"url": "", "url_file": "/run/url"},), None, Destination.UNKNOWN, 1),
    ((SECRET, CHAT), None, Destination.UNKNOWN, 2),
    ((SECRET, HERE), None, Destination.HEALER, 1),
]


@pytest.mark.parametrize(("webhooks", "arrives", "lead", "candidates"), LEADS)
def test_where_a_receiver_leads(
    webhooks: Iterable[dict[str, Any]], arrives: bool | None, lead: Destination, candidates: int
) -> None:
    found = receiver(*webhooks, arrives=arrives)
    assert (found.destination, len(found.candidates)) == (lead, candidates)


def metrics(**last: float) -> HealerSamples:
    name = "pgslot_heal_receiver_last_webhook_timestamp_seconds"
    return HealerSamples(tuple(Sample(name, {"receiver": receiver}, value) for receiver, value in last.items()))


@pytest.mark.parametrize(
    ("known", "loaded_at", "arrives", "text"),
    [
        (metrics(r=100.0), 50.0, True, "came 30 s ago"),
        (metrics(r=100.0), 100.0, True, "came 30 s ago"),
        (metrics(r=100.0), 100.5, None, "since Alertmanager loaded its configuration"),
        (metrics(r=100.0), None, None, "does not say"),
        (metrics(other=100.0), 50.0, None, "since its own start"),
        (None, 50.0, None, "no healer"),
    ],
)
def test_what_the_healer_remembers(
    known: HealerSamples | None, loaded_at: float | None, arrives: bool, text: str
) -> None:
    evidence = remembered("r", known, loaded_at, 130.0)
    assert evidence.delivered is arrives
    assert text in evidence.text


def hidden(world: World) -> None:
    """As Alertmanager 0.28 and newer tell it."""
    for receiver in world.routing["receivers"]:
        for webhook in receiver.get("webhook_configs", ()):
            webhook["url"] = "<secret>"


def heard(receiver: str) -> Change:
    return metric(f'pgslot_heal_receiver_last_webhook_timestamp_seconds{{receiver="{receiver}"}}', time.time())


def people_have_a_webhook(world: World) -> None:
    """Of a chat: without a token, with ends that are not sent."""
    world.routing["receivers"][1]["webhook_configs"] = [{"url": "<secret>", "send_resolved": False, "max_alerts": 3}]


def a_second_webhook(**settings: Any) -> Change:
    return lambda world: world.routing["receivers"][0]["webhook_configs"].append({"url": "<secret>", **settings})


FAULTS: list[Fault] = [
    ("a hidden URL, and a heartbeat that came by that receiver", both(hidden, heard("healer")), []),
    (
        "a hidden URL",
        hidden,
        [
            *(("route", name, "unknown", "there is no proof: ") for name in HEARD),
            ("leads to", "receiver healer", "unknown", "this healer has had no webhook of it since its own start"),
        ],
    ),
    (
        "a hidden URL, and a configuration that is newer than the last webhook",
        both(hidden, heard("healer"), setting(loaded_at=time.time() + 3600)),
        [
            *(("route", name, "unknown", "there is no proof: ") for name in HEARD),
            ("leads to", "receiver healer", "unknown", "no webhook of it since Alertmanager loaded its configuration"),
        ],
    ),
    (
        "a hidden URL, and an Alertmanager that keeps its metrics to itself",
        both(hidden, heard("healer"), setting(loaded_at=None)),
        [
            *(("route", name, "unknown", "there is no proof: ") for name in HEARD),
            ("leads to", "receiver healer", "unknown", "does not say (/metrics) whether its configuration has changed"),
        ],
    ),
    ("somebody else's webhook as well", both(hidden, heard("healer"), people_have_a_webhook), []),
    (
        "heal alerts to somebody else's webhook",
        both(hidden, heard("healer"), people_have_a_webhook, lambda world: world.heal_route.update(receiver="people")),
        [
            *(("route", name, "unknown", "there is no proof: c/n1 only to people") for name in HEALED),
            ("leads to", "receiver people", "unknown", "this healer has had no webhook of it since its own start"),
        ],
    ),
    (
        "a hidden URL, and a route that is proven and slow",
        both(hidden, heard("healer"), lambda world: world.heal_route.update(repeat_interval="4h")),
        [("pace", "route to healer", "warning", "repeat_interval 14400 s")],
    ),
    (
        "a hidden URL without a token, which arrives all the same",
        both(hidden, heard("healer"), lambda world: world.webhook.pop("http_config")),
        [],
    ),
    (
        "two hidden webhooks in one receiver, and what holds for both",
        both(hidden, heard("healer"), a_second_webhook(max_alerts=5), lambda world: world.webhook.update(max_alerts=5)),
        [("webhook", "receiver healer", "warning", "max_alerts 5")],
    ),
    (
        "two hidden webhooks in one receiver, and what holds for one",
        both(hidden, heard("healer"), a_second_webhook(send_resolved=False)),
        [("webhook", "receiver healer", "unknown", "of one of its 2 webhooks, and which is the healer's is hidden")],
    ),
    (
        "a hidden URL, and no healer",
        both(hidden, heard("healer"), broken(HEALER, requests.ConnectionError(OSError(111, "Connection refused")))),
        [
            ("healer", HEALER, "failed", ""),
            ("clusters", HEALER, "skipped", "did not answer"),
            ("webhooks", HEALER, "skipped", "did not answer"),
            *(("route", name, "unknown", "there is no proof: ") for name in HEARD),
            ("leads to", "receiver healer", "unknown", "there is no healer to ask"),
        ],
    ),
    (
        "a name that only Alertmanager knows, and webhooks that came",
        both(moved("http://inside:1/alerts", requests.ConnectTimeout()), heard("healer")),
        [],
    ),
]


@pytest.mark.parametrize(("change", "expected"), [pytest.param(*rest, id=name) for name, *rest in FAULTS])
def test_what_is_said_of_hidden_urls(world: World, change: Change, expected: list[tuple[str, str, str, str]]) -> None:
    is_named(world, change, expected)

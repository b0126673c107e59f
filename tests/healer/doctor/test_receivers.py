"""Where receivers lead, also if Alertmanager hides their URLs: by what arrived, or not known."""

import time
from collections.abc import Iterable
from typing import Any

import pytest
import requests
from prometheus_client.samples import Sample

from healer.doctor.checks.healer import HealerSamples
from healer.doctor.checks.receivers import Destination, evidence_from_webhooks
from tests.support.builders.receivers import CHAT, HEALER_WEBHOOK, SECRET, receiver
from tests.support.fakes.monitoring import HEALER, FakeMonitoring
from tests.support.fakes.monitoring_faults import (
    HEAL_ALERTS,
    ROUTED_ALERTS,
    Change,
    Expected,
    Fault,
    add_healer_webhook,
    add_people_webhook,
    assert_named,
    both,
    broken,
    hide_urls,
    moved,
    setting,
    webhook_arrived,
)

DESTINATIONS = [
    ((), None, Destination.ELSEWHERE, 0),
    # A receiver of that name in another Alertmanager.
    ((), True, Destination.ELSEWHERE, 0),
    ((HEALER_WEBHOOK,), None, Destination.HEALER, 1),
    ((HEALER_WEBHOOK,), True, Destination.HEALER, 1),
    ((HEALER_WEBHOOK,), False, Destination.ELSEWHERE, 1),
    ((CHAT,), None, Destination.ELSEWHERE, 1),
    # Behind a proxy that rewrites paths.
    ((CHAT,), True, Destination.HEALER, 1),
    ((SECRET,), None, Destination.UNKNOWN, 1),
    ((SECRET,), True, Destination.HEALER, 1),
    ((SECRET,), False, Destination.ELSEWHERE, 1),
    (({"url_file": "/run/url"},), None, Destination.UNKNOWN, 1),
    (({"url": "", "url_file": "/run/url"},), None, Destination.UNKNOWN, 1),
    ((SECRET, CHAT), None, Destination.UNKNOWN, 2),
    ((SECRET, HEALER_WEBHOOK), None, Destination.HEALER, 1),
]


@pytest.mark.parametrize(("webhooks", "delivered", "destination", "candidates"), DESTINATIONS)
def test_destination_follows_from_urls_and_proof(
    webhooks: Iterable[dict[str, Any]], delivered: bool | None, destination: Destination, candidates: int
) -> None:
    parsed = receiver(*webhooks, delivered=delivered)
    assert (parsed.destination, len(parsed.candidates)) == (destination, candidates)


def samples_of(**last: float) -> HealerSamples:
    name = "pgslot_heal_receiver_last_webhook_timestamp_seconds"
    return HealerSamples(tuple(Sample(name, {"receiver": receiver}, value) for receiver, value in last.items()))


@pytest.mark.parametrize(
    ("samples", "loaded_at", "delivered", "text"),
    [
        (samples_of(r=100.0), 50.0, True, "came 30 s ago"),
        (samples_of(r=100.0), 100.0, True, "came 30 s ago"),
        (samples_of(r=100.0), 100.5, None, "since Alertmanager loaded its configuration"),
        (samples_of(r=100.0), None, None, "does not show"),
        (samples_of(other=100.0), 50.0, None, "since the healer started"),
        (None, 50.0, None, "no healer"),
    ],
)
def test_webhook_proves_delivery_only_after_the_last_reload(
    samples: HealerSamples | None, loaded_at: float | None, delivered: bool | None, text: str
) -> None:
    evidence = evidence_from_webhooks("r", samples, loaded_at, 130.0)
    assert evidence.delivered is delivered
    assert text in evidence.text


FAULTS: list[Fault] = [
    ("a hidden URL, and a heartbeat that came by that receiver", both(hide_urls, webhook_arrived("healer")), []),
    (
        "a hidden URL",
        hide_urls,
        [
            *(("route", name, "unknown", "nothing proves that it leads to this healer; ") for name in ROUTED_ALERTS),
            ("leads to", "receiver healer", "unknown", "this healer has received no webhook from it since"),
        ],
    ),
    (
        "a hidden URL, and a configuration that is newer than the last webhook",
        both(hide_urls, webhook_arrived("healer"), setting(loaded_at=time.time() + 3600)),
        [
            *(("route", name, "unknown", "nothing proves that it leads to this healer; ") for name in ROUTED_ALERTS),
            ("leads to", "receiver healer", "unknown", "no webhook from it since Alertmanager loaded"),
        ],
    ),
    (
        "a hidden URL, and an Alertmanager that keeps its metrics to itself",
        both(hide_urls, webhook_arrived("healer"), setting(loaded_at=None)),
        [
            *(("route", name, "unknown", "nothing proves that it leads to this healer; ") for name in ROUTED_ALERTS),
            ("leads to", "receiver healer", "unknown", "does not show whether its configuration has changed"),
        ],
    ),
    ("somebody else's webhook as well", both(hide_urls, webhook_arrived("healer"), add_people_webhook), []),
    (
        "heal alerts to somebody else's webhook",
        both(
            hide_urls,
            webhook_arrived("healer"),
            add_people_webhook,
            lambda monitoring: monitoring.heal_route.update(receiver="people"),
        ),
        [
            *(
                ("route", name, "unknown", "leads to this healer; for c/n1, it goes only to people")
                for name in HEAL_ALERTS
            ),
            ("leads to", "receiver people", "unknown", "this healer has received no webhook from it since"),
        ],
    ),
    (
        "a hidden URL, and a route that is proven and slow",
        both(
            hide_urls, webhook_arrived("healer"), lambda monitoring: monitoring.heal_route.update(repeat_interval="4h")
        ),
        [("pace", "route to healer", "warning", "repeat_interval 14400 s")],
    ),
    (
        "a hidden URL without a token, which arrives all the same",
        both(hide_urls, webhook_arrived("healer"), lambda monitoring: monitoring.webhook.pop("http_config")),
        [],
    ),
    (
        "two hidden webhooks in one receiver, and what holds for both",
        both(
            hide_urls,
            webhook_arrived("healer"),
            add_healer_webhook(max_alerts=5),
            lambda monitoring: monitoring.webhook.update(max_alerts=5),
        ),
        [("webhook", "receiver healer", "warning", "max_alerts 5")],
    ),
    (
        "two hidden webhooks in one receiver, and what holds for one",
        both(hide_urls, webhook_arrived("healer"), add_healer_webhook(send_resolved=False)),
        [("webhook", "receiver healer", "unknown", "in one of 2 webhooks, and Alertmanager hides which of them is")],
    ),
    (
        "a hidden URL, and no healer",
        both(
            hide_urls,
            webhook_arrived("healer"),
            broken(HEALER, requests.ConnectionError(OSError(111, "Connection refused"))),
        ),
        [
            ("healer", HEALER, "failed", ""),
            ("clusters", HEALER, "skipped", "did not answer"),
            ("in force", HEALER, "skipped", "did not answer"),
            ("webhooks", HEALER, "skipped", "did not answer"),
            *(("route", name, "unknown", "nothing proves that it leads to this healer; ") for name in ROUTED_ALERTS),
            ("leads to", "receiver healer", "unknown", "there is no healer that could report"),
        ],
    ),
    (
        "a name that only Alertmanager knows, and webhooks that came",
        both(moved("http://inside:1/alerts", requests.ConnectTimeout()), webhook_arrived("healer")),
        [],
    ),
]


@pytest.mark.parametrize(("change", "expected"), [pytest.param(*fault, id=name) for name, *fault in FAULTS])
def test_findings_about_hidden_urls(monitoring: FakeMonitoring, change: Change, expected: Expected) -> None:
    assert_named(monitoring, change, expected)

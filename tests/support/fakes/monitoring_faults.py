"""Faults of a `FakeMonitoring`, and the findings that are expected for them."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from healer.doctor.checks.shipped_rules import rules
from healer.doctor.result import CheckStatus
from healer.remedies.registry import FORCE_SNAPSHOT
from pgslot.config.model import HealerSettings
from tests.support.fakes.monitoring import TOKEN, FakeMonitoring, notable

Change = Callable[[FakeMonitoring], object]
Expected = list[tuple[str, str, str, str]]
"""Check, subject, status and a part of `found`, for each finding that is not ok."""
Fault = tuple[str, Change, Expected]
"""Name, change that causes the fault, expected findings."""

HEAL_ALERTS = [rule.name for rule in rules() if rule.remedy is FORCE_SNAPSHOT]
ROUTED_ALERTS = [rule.name for rule in rules() if rule.remedy is FORCE_SNAPSHOT or rule.heartbeat]
"""The alerts that have to reach the healer, in the order of the rules."""


def assert_named(monitoring: FakeMonitoring, change: Change, expected: Expected) -> None:
    """Cause a fault; assert that the doctor reports it, and that all other findings stay ok."""
    change(monitoring)
    findings = monitoring.examine()
    actual = notable(findings)
    assert [finding[:3] for finding in actual] == [
        (check, subject or finding[1], status)
        for (check, subject, status, _), finding in zip(expected, actual, strict=True)
    ]
    for finding, (_, _, _, part) in zip(actual, expected, strict=True):
        assert part in finding[3]
    assert all(finding.advice for finding in findings if finding.status is CheckStatus.FAILED)
    assert not re.search(f"{TOKEN}|s3cr3t", " ".join(f"{finding.found} {finding.advice}" for finding in findings))


def setting(**values: Any) -> Change:
    return lambda monitoring: monitoring.__dict__.update(values)


def both(*changes: Change) -> Change:
    return lambda monitoring: [change(monitoring) for change in changes]


def metric(series: str, value: float | None) -> Change:
    """Replace all of the healer's series with this prefix by one with this value; None: remove them."""

    def change(monitoring: FakeMonitoring) -> None:
        monitoring.metrics = {
            name: sample for name, sample in monitoring.metrics.items() if not name.startswith(series)
        }
        if value is not None:
            monitoring.metrics[series] = value

    return change


def broken(url: str, fault: str | int | Exception) -> Change:
    """Answer with another body or status, or fail with an exception."""
    return lambda monitoring: monitoring.broken.update({url: fault})


def without_token(monitoring: FakeMonitoring) -> None:
    monitoring.config = replace(monitoring.config, healer=HealerSettings())
    monitoring.token = None


def without_secret_file(monitoring: FakeMonitoring) -> None:
    assert monitoring.config.healer.webhook_token_file is not None
    monitoring.config.healer.webhook_token_file.unlink()


def moved(url: str, answer: str | Exception) -> Change:
    """Let the webhook lead to another URL, where a program serves these metrics, or fails with an exception."""

    def change(monitoring: FakeMonitoring) -> None:
        monitoring.webhook["url"] = url
        monitoring.elsewhere = {url.removesuffix("/alerts"): answer}

    return change


def another_healer(started: float) -> str:
    return f'process_start_time_seconds {started}\npgslot_heal_webhooks_total{{code="200"}} 1.0\n'


def hide_urls(monitoring: FakeMonitoring) -> None:
    """As Alertmanager 0.28 and newer do."""
    for receiver in monitoring.routing["receivers"]:
        for webhook in receiver.get("webhook_configs", ()):
            webhook["url"] = "<secret>"


def webhook_arrived(receiver: str) -> Change:
    return metric(f'pgslot_heal_receiver_last_webhook_timestamp_seconds{{receiver="{receiver}"}}', time.time())


def add_people_webhook(monitoring: FakeMonitoring) -> None:
    """Add the webhook of a chat: without a token, and without resolved alerts."""
    monitoring.routing["receivers"][1]["webhook_configs"] = [
        {"url": "<secret>", "send_resolved": False, "max_alerts": 3}
    ]


def add_healer_webhook(**settings: Any) -> Change:
    return lambda monitoring: monitoring.routing["receivers"][0]["webhook_configs"].append(
        {"url": "<secret>", **settings}
    )

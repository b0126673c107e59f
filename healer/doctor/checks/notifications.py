"""Webhooks that Alertmanager could not deliver, by its own counters."""

import re
from collections.abc import Iterator, Sequence

from healer.doctor.checks.alert_delivery import WEBHOOKS
from healer.doctor.checks.healer import HealerSamples
from healer.doctor.checks.receivers import Receiver
from healer.doctor.result import CheckStatus, Finding


def judge_notifications(
    shown: str, alertmanager_metrics: str, metrics: HealerSamples | None, receivers: Sequence[Receiver]
) -> Iterator[Finding]:
    """
    Report webhooks that Alertmanager could not deliver, unless the healer's arrive.

    `alertmanager_metrics`: Alertmanager's own, as text. `receivers`: those that lead, or may lead, to the healer.
    """
    failed = _sum(alertmanager_metrics, "alertmanager_notifications_failed_total")
    if not failed or any(receiver.evidence.delivered for receiver in receivers):
        return
    sent = _sum(alertmanager_metrics, "alertmanager_notifications_total")
    refused = metrics.by_label(WEBHOOKS, "code").get("401", 0.0) if metrics is not None else 0.0
    found = (
        f"{failed:.0f} of {sent:.0f} webhooks have failed since Alertmanager's start, and none has reached this healer"
    )
    if refused:
        found += f", which has refused {refused:.0f} with 401 (one for each run of this doctor)"
    advice = "Run doctor again with --test-alert: it shows whether they arrive. Also read Alertmanager's log."
    yield Finding("notifications", shown, CheckStatus.WARNING, found, advice)


def _sum(metrics: str, name: str) -> float:
    """Return the sum of a counter's series for webhooks."""
    return sum(map(float, re.findall(rf'^{name}{{[^}}]*integration="webhook"[^}}]*}} (\S+)$', metrics, re.MULTILINE)))

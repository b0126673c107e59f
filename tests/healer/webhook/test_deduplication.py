"""Which alerts were taken already, and which firing of an alert a webhook or a listing is about."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from healer.webhook import deadlines
from healer.webhook.deduplication import SeenAlerts, fires_again
from healer.webhook.payload import Alert

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=40)
ALERT = Alert(firing=True, labels={}, fingerprint="f", starts_at=NOON)
AGAIN = replace(ALERT, starts_at=LATER)
UNDATED = replace(ALERT, starts_at=None)


@pytest.mark.parametrize(
    ("starts_at", "before", "expected"),
    [
        (LATER, NOON, True),
        (NOON, NOON, False),
        # Of two Prometheus servers each has a start of its own.
        (NOON, LATER, False),
        (None, NOON, False),
        (LATER, None, False),
        (None, None, False),
    ],
)
def test_only_a_later_start_is_another_firing(
    starts_at: datetime | None, before: datetime | None, *, expected: bool
) -> None:
    assert fires_again(starts_at, before) is expected


@pytest.mark.parametrize(
    ("seen", "ended", "expected"),
    [
        ([ALERT], NOON + timedelta(seconds=30), False),
        # Of two Alertmanagers the second reports the end 15 s late.
        ([ALERT, AGAIN], NOON + timedelta(seconds=30), True),
        ([ALERT, AGAIN], LATER + timedelta(seconds=20), False),
        # Of two Prometheus servers each has a start of its own: the later one is no other firing.
        ([AGAIN, ALERT], LATER + timedelta(seconds=20), False),
        ([ALERT, UNDATED], NOON + timedelta(seconds=30), False),
        ([UNDATED], NOON, False),
        ([AGAIN], None, False),
        ([], NOON, False),
    ],
)
def test_end_before_the_alert_began_again_is_superseded(
    seen: list[Alert], ended: datetime | None, *, expected: bool
) -> None:
    alerts = SeenAlerts()
    for alert in seen:
        alerts.add(alert)
    assert alerts.is_superseded(replace(ALERT, firing=False, ends_at=ended)) is expected


def test_alert_that_was_not_taken_is_submitted_again_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("healer.webhook.deduplication.time.monotonic", lambda: now)
    alerts = SeenAlerts()
    alerts.add(ALERT, deadlines.RESUBMIT_AFTER_SECONDS)
    assert alerts.current == {"f": NOON}
    now += deadlines.RESUBMIT_AFTER_SECONDS
    assert alerts.current == {}
    assert "f" not in alerts
    alerts.add(ALERT)
    now += 1e6
    assert "f" in alerts


def test_listing_does_not_forget_an_alert_that_was_taken_while_it_was_on_its_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("healer.webhook.deduplication.time.monotonic", lambda: now)
    alerts = SeenAlerts()
    alerts.add(ALERT)
    now = 1000.5
    alerts.add(replace(ALERT, fingerprint="g"))
    alerts.retain(set(), as_of=1000.2)
    assert set(alerts.current) == {"g"}
    alerts.retain(set(), as_of=1001.0)
    assert set(alerts.current) == set()

"""Bodies of webhooks: the alerts that they hold, and the errors that invalid ones get."""

import json
from typing import Any

import pytest

from healer.webhook.payload import WebhookError, parse
from tests.support.builders.webhooks import ALERT, BODY


def encoded(**changes: Any) -> bytes:
    return json.dumps(BODY | changes).encode()


def test_every_alert_keeps_its_own_status() -> None:
    webhook = parse(encoded(alerts=[ALERT, ALERT | {"status": "resolved"}]))
    assert [alert.firing for alert in webhook.alerts] == [True, False]
    assert webhook.alerts[0].labels == ALERT["labels"]
    assert webhook.alerts[0].fingerprint == "0123456789abcdef"


def test_truncated_alerts_are_counted() -> None:
    assert parse(encoded(truncatedAlerts=7)).truncated == 7


MISTAKES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "body: expected JSON"),
    "not JSON": (b"{", "body: expected JSON"),
    "not UTF-8": (b'{"version": "\xff"}', "body: expected JSON"),
    "deep": (b"[" * 100_000, "body: expected JSON"),
    "a list": (b"[]", "body: expected an object, found an array"),
    "version 3": (encoded(version="3"), 'version: expected the string "4" (Alertmanager) or "1" (Grafana), found "3"'),
    "version number": (encoded(version=4), 'version: expected the string "4" (Alertmanager) or "1" (Grafana), found 4'),
    "no version": (b'{"alerts": []}', 'version: expected the string "4" (Alertmanager) or "1" (Grafana), found null'),
    "alerts null": (encoded(alerts=None), "alerts: expected an array, found null"),
    "alert a string": (encoded(alerts=["x"]), 'alerts[0]: expected an object, found "x"'),
    "status": (encoded(alerts=[ALERT, ALERT | {"status": "odd"}]), "alerts[1].status: expected firing or resolved"),
    "labels": (encoded(alerts=[ALERT | {"labels": []}]), "alerts[0].labels: expected an object, found an array"),
    "label value": (encoded(alerts=[ALERT | {"labels": {"a": 1}}]), "alerts[0].labels.a: expected a string, found 1"),
    "half a surrogate pair": (
        b'{"version": "4", "alerts": [{"status": "firing", "labels": {"a": "\\ud800"}, "fingerprint": "f"}]}',
        'alerts[0].labels: expected text that UTF-8 can hold, found "a=\\ud800"',
    ),
    "fingerprint": (encoded(alerts=[ALERT | {"fingerprint": ""}]), "alerts[0].fingerprint: expected a string"),
    "truncated": (encoded(truncatedAlerts=-1), "truncatedAlerts: expected a whole number, found -1"),
}


@pytest.mark.parametrize(("body", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_invalid_body_is_refused_with_field_expected_and_found(body: bytes, message: str) -> None:
    with pytest.raises(WebhookError) as caught:
        parse(body)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300

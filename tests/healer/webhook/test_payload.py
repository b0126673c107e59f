"""Bodies of webhooks: the alerts that they hold, and the errors that invalid ones get."""

import json
from typing import Any

import pytest

from healer.webhook.json_scanner import MAX_VALUE_BYTES
from healer.webhook.payload import MAX_ALERTS, WebhookError, parse
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
    "long fingerprint": (
        encoded(alerts=[ALERT | {"fingerprint": "f" * 65}]),
        "alerts[0].fingerprint: expected a string of at most 64 characters",
    ),
    "too many alerts": (encoded(alerts=[ALERT] * (MAX_ALERTS + 1)), "alerts: expected at most 20000, found more"),
    "a long value": (
        encoded(alerts=[ALERT | {"annotations": {"a": "x" * MAX_VALUE_BYTES}}]),
        "body: expected JSON, found: no value of at most 262144 bytes",
    ),
    "two documents": (encoded() + b"{}", "body: expected JSON, found: extra data"),
    "no colon": (b'{"version" "4"}', "body: expected JSON, found: expected ':'"),
    "trailing comma": (b'{"version":"4",}', "body: expected JSON, found: expected a name in double quotes"),
    "truncated": (encoded(truncatedAlerts=-1), "truncatedAlerts: expected a whole number, found -1"),
}


@pytest.mark.parametrize(("body", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_invalid_body_is_refused_with_field_expected_and_found(body: bytes, message: str) -> None:
    with pytest.raises(WebhookError) as caught:
        parse(body)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


def test_labels_are_cut_and_those_that_nobody_uses_are_dropped() -> None:
    labels = {"alertname": "x" * 1_000, "slot_name": "s" * 1_000, "other": "x"}
    [alert] = parse(encoded(alerts=[ALERT | {"labels": labels}])).alerts
    assert alert.labels == {"alertname": "x" * 200, "slot_name": "s" * 200}


@pytest.mark.parametrize("filler", ["", "ü", "\N{WHITE MEDIUM STAR}", "\N{GRINNING FACE}"])
@pytest.mark.parametrize("size", [*range(4000, 4120, 7), 32_700, 32_768, 60_000])
def test_alert_of_any_length_is_read_across_the_ends_of_slices(filler: str, size: int) -> None:
    long = ALERT | {"annotations": {"a": filler * (size // 4) or "x" * size}, "n": 1234567890}
    for body in (
        json.dumps(BODY | {"alerts": [long, ALERT]}, ensure_ascii=False),
        json.dumps({"truncatedAlerts": 12345} | BODY | {"alerts": [long, ALERT]}, indent=1),
    ):
        webhook = parse(body.encode())
        assert [alert.fingerprint for alert in webhook.alerts] == [ALERT["fingerprint"]] * 2

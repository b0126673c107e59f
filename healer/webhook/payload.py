"""
Parses the webhooks of Alertmanager (version 4) and of Grafana Alerting (version 1) into alerts.

Unknown fields are accepted: Grafana and newer Alertmanagers send more.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from healer.webhook.json_scanner import JsonScanner

HEAL_LABEL = "heal"
"""The label that names the remedy an alert asks for."""
MAX_URL_LENGTH = 2000
HEARTBEAT_LABEL = "heartbeat"
HEARTBEAT = "pgslot-healer"
"""The value of HEARTBEAT_LABEL of PgSlotWatchdog."""
TEST_LABEL = "pgslot_test"
"""The label of the doctor's test alerts, which find out where a route leads; every run has its own value."""

LABELS = frozenset({"alertname", "cluster", "node", "slot_name", HEAL_LABEL, HEARTBEAT_LABEL, TEST_LABEL})
"""The labels that the healer uses; of others only the form is checked."""
MAX_LABEL_LENGTH = 200
"""Names of clusters and nodes have at most 128 characters, those of slots 63: a value that is cut is not a name."""
MAX_FINGERPRINT_LENGTH = 64
"""Alertmanager's and Grafana's have 16."""
MAX_ALERTS = 20_000

ALERTMANAGER, GRAFANA = "4", "1"
"""Values of the field `version`."""
_NOT_MEASURED = frozenset({"DatasourceNoData", "DatasourceError"})
"""Grafana's alerts about a rule that it could not evaluate; but for the name, they have the labels of that rule."""
_STATE_REASON = "grafana_state_reason"
"""Grafana's annotation of a state without a value: NoData, Error, KeepLast, or MissingSeries when it resolved."""


class WebhookError(Exception):
    """The body is not a webhook of version 4 or 1. The text names the field, what was expected and what was found."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of a webhook: `alerts[]`."""

    firing: bool
    """Its own `status`: a webhook mixes firing and resolved alerts, whatever its top-level `status`."""
    labels: dict[str, str]
    """Those of LABELS that it has, MAX_LABEL_LENGTH characters of each."""
    fingerprint: str
    """Alertmanager's or Grafana's hash of the labels, the same from every Alertmanager of a cluster."""
    unmeasured: bool = False
    """Grafana reports its state without a value: the rule had no data, or an error."""
    starts_at: datetime | None = None
    """`startsAt` in milliseconds; a later one with the same fingerprint is another firing. None: missing or no time."""
    runbook_url: str = ""
    """The annotation `runbook_url`; empty: missing, or not an http URL."""
    ends_at: datetime | None = None
    """`endsAt` of a resolved alert; None: it fires, or the time is missing or no time."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One request body."""

    alerts: tuple[Alert, ...]
    truncated: int
    """`truncatedAlerts`: how many alerts the receiver's `max_alerts` cut off."""
    receiver: str | None = None
    """
    The receiver's name in Alertmanager's configuration. None: missing or not text.

    Also None for Grafana, whose contact points prove nothing about Alertmanager's routes.
    """

    @property
    def has_test_alert(self) -> bool:
        """Whether a test alert of the doctor fires in it."""
        return any(alert.firing and alert.labels.get(TEST_LABEL) for alert in self.alerts)


class Action(StrEnum):
    """What was done with an alert."""

    STARTED = "started"
    JOINED = "joined"
    REFUSED_FULL = "refused_full"
    """The episode has no room for it. The answer is 503, so that Alertmanager sends the webhook again."""
    REFUSED_BUDGET = "refused_budget"
    """`clusters_at_once` clusters are being healed already. The answer is 503 as well."""
    RESOLVED = "resolved"
    """It took part in a running episode and has resolved."""
    HEARTBEAT = "heartbeat"
    """It is PgSlotWatchdog, which always fires and only has to arrive."""
    IGNORED_RESOLVED = "ignored_resolved"
    IGNORED_TEST = "ignored_test"
    """A test alert of the doctor, which only has to arrive."""
    IGNORED_NO_HEAL_LABEL = "ignored_no_heal_label"
    IGNORED_UNMEASURED = "ignored_unmeasured"
    """It fires because Grafana had no data, or an error, for its rule; nothing was measured."""
    IGNORED_NO_SLOT = "ignored_no_slot"
    """It lacks the label node or slot_name, which never stands for every one, or no slot can have that name."""
    IGNORED_UNKNOWN_CLUSTER = "ignored_unknown_cluster"
    IGNORED_UNKNOWN_NODE = "ignored_unknown_node"
    """The cluster's configuration has no such node: the effect could not be verified."""
    IGNORED_NOT_CONFIGURED = "ignored_not_configured"
    """The cluster has no `healer` section: it is only observed."""
    IGNORED_REMEDY_OFF = "ignored_remedy_off"
    """Its remedy needs a section of its own in the configuration, which the cluster does not have."""
    IGNORED_DISABLED = "ignored_disabled"
    """Healing is switched off, for this cluster or for all of them."""


REFUSED = frozenset({Action.REFUSED_FULL, Action.REFUSED_BUDGET})
"""The alert was not taken and has to be sent again."""


def parse(body: bytes | bytearray) -> Webhook:
    """
    Parse a request body. Raises WebhookError.

    It takes memory for one alert at a time, and for what is kept of each.
    """
    members: dict[str, Any] = {}
    try:
        scanner = JsonScanner(body)
        if not scanner.at(b"{"):
            raise _error("body", "an object", scanner.value())
        for name in scanner.members():
            scanner.enter_value()
            members[name] = _alerts(scanner) if name == "alerts" and scanner.at(b"[") else scanner.value()
        scanner.end()
    except ValueError as error:
        raise WebhookError(f"body: expected JSON, found: {error}") from None
    version = members.get("version")
    if version not in (ALERTMANAGER, GRAFANA):
        raise _error("version", 'the string "4" (Alertmanager) or "1" (Grafana)', version)
    alerts = members.get("alerts")
    if not isinstance(alerts, tuple):
        raise _error("alerts", "an array", alerts)
    truncated = members.get("truncatedAlerts", 0)
    if not isinstance(truncated, int) or isinstance(truncated, bool) or truncated < 0:
        raise _error("truncatedAlerts", "a whole number", truncated)
    receiver = members.get("receiver") if version == ALERTMANAGER else None
    if not (isinstance(receiver, str) and receiver and is_text(receiver)):
        receiver = None
    return Webhook(alerts, truncated, receiver)


def _alerts(scanner: JsonScanner) -> tuple[Alert, ...]:
    alerts = []
    for index in scanner.elements():
        if index == MAX_ALERTS:
            raise WebhookError(f"alerts: expected at most {MAX_ALERTS}, found more")
        alerts.append(_alert(scanner.value(), f"alerts[{index}]"))
    return tuple(alerts)


def parse_saved(body: bytes) -> tuple[Alert, ...]:
    """
    Return the alerts of a saved webhook, or of a saved answer to GET /api/v2/alerts, which lists only firing alerts.

    Raises WebhookError.
    """
    data = _json(body)
    if not isinstance(data, list):
        return parse(body).alerts
    places = [f"alerts[{i}]" for i in range(len(data))]
    # In a listing `status` is an object that says whether the alert is silenced.
    return tuple(
        _alert(_object(item, place) | {"status": "firing"}, place) for item, place in zip(data, places, strict=True)
    )


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WebhookError(f"body: expected JSON, found: {error}") from None


def _alert(item: Any, place: str) -> Alert:
    alert = _object(item, place)
    status = alert.get("status")
    if status not in ("firing", "resolved"):
        raise _error(f"{place}.status", "firing or resolved", status)
    labels = _object(alert.get("labels"), f"{place}.labels")
    for name, value in labels.items():
        if not isinstance(value, str):
            raise _error(f"{place}.labels.{name}", "a string", value)
        if not is_text(name) or not is_text(value):
            raise _error(f"{place}.labels", "text that UTF-8 can hold", f"{name}={value}")
    fingerprint = alert.get("fingerprint")
    if not isinstance(fingerprint, str) or not 0 < len(fingerprint) <= MAX_FINGERPRINT_LENGTH:
        raise _error(f"{place}.fingerprint", f"a string of at most {MAX_FINGERPRINT_LENGTH} characters", fingerprint)
    annotations = alert.get("annotations")
    return Alert(
        firing=status == "firing",
        labels={name: value[:MAX_LABEL_LENGTH] for name, value in labels.items() if name in LABELS},
        fingerprint=fingerprint,
        unmeasured=is_unmeasured(labels, annotations),
        starts_at=parse_time(alert.get("startsAt")),
        runbook_url=runbook_url(annotations),
    )


def is_unmeasured(labels: Mapping[str, str], annotations: Any) -> bool:
    """Return whether Grafana reports this alert's state without a value."""
    reason = annotations.get(_STATE_REASON) if isinstance(annotations, dict) else None
    return labels.get("alertname") in _NOT_MEASURED or bool(reason)


def parse_time(value: Any) -> datetime | None:
    """
    Return an alert's time in whole milliseconds, as Alertmanager's API shows it (a webhook has nanoseconds).

    None: it is not a time with an offset. An alert without a usable start is not refused for that.
    """
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return None if time.tzinfo is None else time.replace(microsecond=time.microsecond // 1000 * 1000)


def runbook_url(annotations: Any) -> str:
    """Return the annotation `runbook_url`, which the status page links to; empty if it is not an http or https URL."""
    url = annotations.get("runbook_url") if isinstance(annotations, dict) else None
    if not isinstance(url, str) or len(url) > MAX_URL_LENGTH or not is_text(url):
        return ""
    return url if url.startswith(("http://", "https://")) else ""


def is_text(value: str) -> bool:
    """Return whether UTF-8 can encode it: JSON can escape half a surrogate pair, which no page or log can show."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _error(place, "an object", value)
    return value


def _error(place: str, expected: str, found: Any) -> WebhookError:
    # Alertmanager logs the answer: values are cut short, and nested ones only named.
    if isinstance(found, list | dict):
        shown = "an array" if isinstance(found, list) else "an object"
    else:
        shown = json.dumps(found[:80] if isinstance(found, str) else found)[:80]
    return WebhookError(f"{ascii(place)[1:-1][:100]}: expected {expected}, found {shown}")

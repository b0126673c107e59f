"""
Alertmanager's webhook, version 4, and that of Grafana Alerting, version 1, to alerts.

Unknown fields are accepted: Grafana, and newer Alertmanagers, send more.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

HEAL_LABEL = "heal"
"""Names the remedy that an alert asks for."""
TEST_LABEL = "pgslot_test"
"""Marks the alerts that the doctor sends to find out where a route leads; its value differs each time."""

ALERTMANAGER, GRAFANA = "4", "1"
"""Values of the key `version`."""
_NOT_MEASURED = frozenset({"DatasourceNoData", "DatasourceError"})
"""Grafana's alerts about a rule that it could not evaluate: with all labels of the rule's own alerts but the name."""
_STATE_REASON = "grafana_state_reason"
"""Grafana's annotation where no value is behind a state: NoData, Error, KeepLast; MissingSeries of one that ended."""


class WebhookError(Exception):
    """The body is no webhook of version 4 or 1. The text names the place, the expected and the found."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of a webhook: `alerts[]`."""

    firing: bool
    """Its own `status`; a webhook mixes firing and resolved alerts, and the top-level status says little."""
    labels: dict[str, str]
    fingerprint: str
    """Alertmanager's or Grafana's hash of the labels: the same from every Alertmanager of a cluster."""
    unmeasured: bool = False
    """Grafana says that no value is behind its state: it had no data, or an error, for the rule."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One request body."""

    alerts: tuple[Alert, ...]
    truncated: int
    """`truncatedAlerts`: how many were cut off by the receiver's max_alerts."""
    receiver: str | None = None
    """
    Its name in Alertmanager's configuration. None: it does not say, or not in text.

    Nor is it told of Grafana's, whose contact points prove nothing of Alertmanager's routes.
    """

    @property
    def tests(self) -> bool:
        """Has an alert of the doctor's that fires."""
        return any(alert.firing and alert.labels.get(TEST_LABEL) for alert in self.alerts)


class Action(StrEnum):
    """What was done with an alert."""

    STARTED = "started"
    JOINED = "joined"
    REFUSED_FULL = "refused_full"
    """The episode has no room for it. The webhook is answered with 503, so that Alertmanager sends it again."""
    REFUSED_BUDGET = "refused_budget"
    """As many clusters as may be healed at once are being healed. Answered with 503 as well."""
    RESOLVED = "resolved"
    """It took part in a running episode, and resolved."""
    IGNORED_RESOLVED = "ignored_resolved"
    IGNORED_TEST = "ignored_test"
    """The doctor's, to find out whether it arrives."""
    IGNORED_NO_HEAL_LABEL = "ignored_no_heal_label"
    IGNORED_UNMEASURED = "ignored_unmeasured"
    """It fires because Grafana had no data, or an error, for its rule, and not because of what was measured."""
    IGNORED_NO_SLOT = "ignored_no_slot"
    """It lacks the label node or slot_name. Nothing named is never taken for everything."""
    IGNORED_UNKNOWN_CLUSTER = "ignored_unknown_cluster"
    IGNORED_UNKNOWN_NODE = "ignored_unknown_node"
    """The configuration of the cluster has no such node: nobody could verify the effect."""
    IGNORED_NOT_CONFIGURED = "ignored_not_configured"
    """The cluster has no healer section: it is only observed."""
    IGNORED_REMEDY_OFF = "ignored_remedy_off"
    """Its remedy has a section of its own in the configuration, and the cluster has none: nobody has allowed it."""
    IGNORED_DISABLED = "ignored_disabled"
    """Switched off, for this cluster or for all."""


REFUSED = frozenset({Action.REFUSED_FULL, Action.REFUSED_BUDGET})


def parse(body: bytes) -> Webhook:
    """Parse a request body. Raises WebhookError."""
    top = _object(_json(body), "body")
    version = top.get("version")
    if version not in (ALERTMANAGER, GRAFANA):
        raise _error("version", 'the string "4" (Alertmanager) or "1" (Grafana)', version)
    alerts = top.get("alerts")
    if not isinstance(alerts, list):
        raise _error("alerts", "an array", alerts)
    truncated = top.get("truncatedAlerts", 0)
    if not isinstance(truncated, int) or isinstance(truncated, bool) or truncated < 0:
        raise _error("truncatedAlerts", "a whole number", truncated)
    receiver = top.get("receiver") if version == ALERTMANAGER else None
    named = receiver if isinstance(receiver, str) and receiver and is_text(receiver) else None
    return Webhook(tuple(_alert(item, f"alerts[{i}]") for i, item in enumerate(alerts)), truncated, named)


def parse_saved(body: bytes) -> tuple[Alert, ...]:
    """
    Return the alerts of a webhook's body, or of Alertmanager's GET /api/v2/alerts, which are those that fire.

    Raises WebhookError.
    """
    data = _json(body)
    if not isinstance(data, list):
        return parse(body).alerts
    places = [f"alerts[{i}]" for i in range(len(data))]
    # There `status` says whether it is silenced.
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
    if not isinstance(fingerprint, str) or not fingerprint:
        raise _error(f"{place}.fingerprint", "a string", fingerprint)
    return Alert(status == "firing", labels, fingerprint, is_unmeasured(labels, alert.get("annotations")))


def is_unmeasured(labels: Mapping[str, str], annotations: Any) -> bool:
    """Return whether Grafana says that the state of this alert does not come of a value."""
    reason = annotations.get(_STATE_REASON) if isinstance(annotations, dict) else None
    return labels.get("alertname") in _NOT_MEASURED or bool(reason)


def is_text(value: str) -> bool:
    """Return whether UTF-8 can hold it: JSON can write half a character, which no page and no log could show."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _error(place, "an object", value)
    return value


def _error(place: str, expected: str, found: Any) -> WebhookError:
    # The answer ends up in Alertmanager's log, so that what was found is cut short. What is nested is only named.
    if isinstance(found, list | dict):
        shown = "an array" if isinstance(found, list) else "an object"
    else:
        shown = json.dumps(found[:80] if isinstance(found, str) else found)[:80]
    return WebhookError(f"{ascii(place)[1:-1][:100]}: expected {expected}, found {shown}")

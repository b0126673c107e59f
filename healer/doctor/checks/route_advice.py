"""What to do about an alert that does not reach the healer, by what its receivers are known to lack."""

from collections.abc import Mapping, Sequence

from healer.doctor.checks.receivers import SEE_EXAMPLE, Receiver
from healer.doctor.checks.routing import Route
from healer.doctor.checks.shipped_rules import HEARTBEAT
from healer.remedies.registry import REMEDIES
from healer.webhook.payload import HEAL_LABEL

RoutedAlerts = Sequence[tuple[Mapping[str, str], Sequence[Route]]]
"""The labels of each alert for the healer, and the routes that send it."""

_HEARTBEAT_MATCHER = f"""'{HEARTBEAT[0]}="{HEARTBEAT[1]}"'"""


def route_advice(name: str, routed: RoutedAlerts, receivers: Mapping[str, Receiver]) -> str:
    """Return what to do about an alert that does not reach the healer: the receiver that there is comes first."""
    alert, routes = next((alert, routes) for alert, routes in routed if alert["alertname"] == name)
    for receiver in (receivers[route.receiver] for route in routes):
        if receiver.evidence.refused:
            return (
                f"Put the content of the healer's webhook_token_file into the file that http_config.authorization of"
                f" receiver {receiver.name} names, and reload Alertmanager: its token differs."
            )
        if receiver.evidence.delivered is False and receiver.candidates:
            return (
                f"Correct the url of the webhook of receiver {receiver.name}: http://HEALER:9878/alerts, as seen from"
                f" Alertmanager, whose log has the error. {SEE_EXAMPLE}"
            )
    matcher = f"""'{HEAL_LABEL}=~"{"|".join(REMEDIES)}"'""" if HEAL_LABEL in alert else _HEARTBEAT_MATCHER
    onward = ", continue: true" if HEAL_LABEL in alert else ""
    candidate = next((receiver.name for receiver in receivers.values() if receiver.candidates), None)
    target = f"a route to receiver {candidate}" if candidate else "a route to it"
    new = "" if candidate else "Add a receiver with webhook_configs: [url: http://HEALER:9878/alerts]. "
    return (
        f'{new}Add, before other routes, {target} with matchers: [{matcher}], group_by: ["..."], group_wait: 0s'
        f"{onward}. {SEE_EXAMPLE}"
    )

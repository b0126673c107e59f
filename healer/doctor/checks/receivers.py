"""
Alertmanager's receivers: which of them lead to this healer, and whether they send webhooks as they should.

Alertmanager 0.28 and newer hide the URLs of webhooks, so that webhooks that arrived are the proof (`Evidence`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from healer.doctor.checks.healer import HealerSamples, OtherProgramError, fetch_metrics
from healer.doctor.http import Client, describe
from healer.doctor.result import CheckStatus, Finding
from pgslot.httpclient import HttpError

HIDDEN = "<secret>"
"""What Alertmanager 0.28 and newer show in place of a webhook's URL."""

LAST_WEBHOOK = "pgslot_heal_receiver_last_webhook_timestamp_seconds"

SEE_EXAMPLE = "See alerts/alertmanager.yml."
GET_PROOF = (
    "Run doctor again with --test-alert: it sends a marked alert the same way, which the healer only notes."
    " For a receiver that gets PgSlotWatchdog, that heartbeat is proof within 5 minutes."
)

Webhook = Mapping[str, Any]
"""An entry of `webhook_configs`."""


class Destination(StrEnum):
    """Where a receiver leads."""

    HEALER = "healer"
    """By proof, or going by its URL, which is still to be checked."""
    ELSEWHERE = "elsewhere"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What webhooks that arrived prove about a receiver, whatever its URL."""

    delivered: bool | None
    """Whether its webhooks come to this healer. None: neither is proven."""
    text: str
    """How that is known, or why it is not."""
    refused: bool = False
    """Webhooks arrive at this healer, and it refuses them with 401."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver of Alertmanager: what its configuration shows, and what has arrived from it."""

    name: str
    with_alerts_url: tuple[Webhook, ...]
    """Its webhooks whose URL ends in /alerts, as the healer's does."""
    with_other_url: tuple[Webhook, ...]
    """Its webhooks with another URL, which is the healer's only by proof."""
    with_hidden_url: tuple[Webhook, ...]
    """Its webhooks whose URL is not shown."""
    evidence: Evidence

    @property
    def destination(self) -> Destination:
        if self.evidence.delivered and (self.with_alerts_url or self.with_hidden_url or self.with_other_url):
            return Destination.HEALER
        if self.evidence.delivered is None and self.with_alerts_url:
            return Destination.HEALER
        if self.evidence.delivered is None and self.with_hidden_url:
            return Destination.UNKNOWN
        return Destination.ELSEWHERE

    @property
    def candidates(self) -> tuple[Webhook, ...]:
        """The webhooks that may be the healer's, if one of them is."""
        return self.with_alerts_url or (*self.with_hidden_url, *self.with_other_url)


def parse_receivers(data: Any, evidence: Mapping[str, Evidence]) -> dict[str, Receiver]:
    """Return a configuration's receivers by name. Raises KeyError, TypeError or AttributeError if it is not one."""
    receivers = {}
    for receiver in data["receivers"]:
        name = str(receiver["name"])
        by_url: dict[str, list[Webhook]] = {"alerts": [], "other": [], "hidden": []}
        for webhook in receiver.get("webhook_configs") or ():
            by_url[_classify(str(webhook.get("url") or HIDDEN))].append(webhook)
        alerts, other, hidden = map(tuple, by_url.values())
        receivers[name] = Receiver(name, alerts, other, hidden, evidence[name])
    return receivers


def _classify(url: str) -> str:
    if url == HIDDEN:
        return "hidden"
    return "alerts" if urlsplit(url).path.endswith("/alerts") else "other"


def evidence_from_webhooks(name: str, metrics: HealerSamples | None, loaded_at: float | None, now: float) -> Evidence:
    """
    Return what the healer's own record of webhooks proves about the receiver of this name.

    `metrics`: the healer's, None when it is away. `loaded_at`: when Alertmanager loaded its current configuration, None
    when it does not say; a webhook from before that proves nothing about it. Unix times.
    """
    if metrics is None:
        return Evidence(None, "there is no healer that could report its webhooks")
    last = metrics.by_label(LAST_WEBHOOK, "receiver").get(name)
    if last is None:
        return Evidence(None, "this healer has received no webhook from it since the healer started")
    if loaded_at is None:
        return Evidence(
            None, "Alertmanager's /metrics does not show whether its configuration has changed since the last"
        )
    if last < loaded_at:
        return Evidence(None, "this healer has received no webhook from it since Alertmanager loaded its configuration")
    return Evidence(delivered=True, text=f"this healer: its last webhook came {max(0.0, now - last):.0f} s ago")


async def check_destination(
    receiver: Receiver, healer: Client, metrics: HealerSamples | None, connect: Callable[[str], Client] = Client
) -> Finding:
    """
    Check that one of its webhooks leads to the checked healer, by what answers at its URL.

    `metrics`: the healer's, None when it is away. `connect`: makes the client for a webhook's base URL.
    """
    subject = f"receiver {receiver.name}"
    if receiver.evidence.delivered:
        return Finding("leads to", subject, CheckStatus.OK, receiver.evidence.text)
    if not receiver.with_alerts_url:
        found = f"Alertmanager hides the URL, and {receiver.evidence.text}"
        return Finding("leads to", subject, CheckStatus.UNKNOWN, found, GET_PROOF)
    if metrics is None:
        return Finding(
            "leads to", subject, CheckStatus.SKIPPED, f"there is no healer at {healer.shown} to compare with"
        )
    elsewhere: list[str] = []
    unknown: list[str] = []
    for webhook in receiver.with_alerts_url:
        url = urlsplit(str(webhook["url"]))
        async with connect(url._replace(path=url.path.removesuffix("/alerts"), query="").geturl()) as server:
            if server.shown == healer.shown:
                return Finding("leads to", subject, CheckStatus.OK, f"{server.shown}/alerts, this healer")
            try:
                process = (await fetch_metrics(server)).process
            except OtherProgramError:
                elsewhere.append(f"{server.shown} (no healer)")
                continue
            except HttpError as error:
                unknown.append(f"{server.shown} cannot be queried from here ({describe(error)})")
                continue
        if process is not None and process == metrics.process:
            return Finding("leads to", subject, CheckStatus.OK, f"{server.shown}/alerts, this healer by another name")
        elsewhere.append(server.shown)
    if unknown:
        found = f"{'; '.join(unknown)}, and {receiver.evidence.text}"
        return Finding("leads to", subject, CheckStatus.UNKNOWN, found, GET_PROOF)
    advice = "Correct the URL, or check that healer instead: --healer.url."
    found = f"does not lead to {healer.shown}, but to {', '.join(elsewhere)}"
    return Finding("leads to", subject, CheckStatus.FAILED, found, advice)


def judge_webhooks(receiver: Receiver, *, token: bool) -> Iterator[Finding]:
    """
    Report what is wrong with how the healer's receiver sends; `token`: the healer expects one.

    If it has several webhooks with hidden URLs, any of them may be the healer's: only faults that all of them have are
    certain.
    """
    # A webhook that arrived had the token, wherever that is configured.
    token = token and not receiver.evidence.delivered
    faults = [list(_faults(f"receiver {receiver.name}", webhook, token=token)) for webhook in receiver.candidates]
    if receiver.with_alerts_url:
        yield from (fault for webhook_faults in faults for fault in webhook_faults)
        return
    common = [fault for fault in faults[0] if all(fault in webhook_faults for webhook_faults in faults)]
    yield from common
    doubtful = dict.fromkeys(
        fault.found for webhook_faults in faults for fault in webhook_faults if fault not in common
    )
    if doubtful:
        hidden = f"in one of {len(faults)} webhooks, and Alertmanager hides which of them is the healer's"
        found = f"{'; '.join(doubtful)}: {hidden}"
        advice = f"Give the healer a receiver of its own. {SEE_EXAMPLE}"
        yield Finding("webhook", f"receiver {receiver.name}", CheckStatus.UNKNOWN, found, advice)


def _faults(subject: str, webhook: Webhook, *, token: bool) -> Iterator[Finding]:
    http = webhook.get("http_config") or {}
    if token and not (http.get("authorization") or http.get("basic_auth") or http.get("oauth2")):
        advice = f"Set http_config.authorization.credentials_file to a copy of webhook_token_file. {SEE_EXAMPLE}"
        found = "sends no token: the healer refuses every webhook"
        yield Finding("webhook", subject, CheckStatus.FAILED, found, advice)
    if not webhook.get("send_resolved", True):
        advice = "Set send_resolved: true."
        found = "send_resolved: false: the healer does not learn that an alert has ended"
        yield Finding("webhook", subject, CheckStatus.WARNING, found, advice)
    if webhook.get("max_alerts"):
        found = f"max_alerts {webhook['max_alerts']}: further alerts are cut off, even if they fire"
        yield Finding("webhook", subject, CheckStatus.WARNING, found, "Remove max_alerts.")

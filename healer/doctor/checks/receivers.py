"""Where Alertmanager's receivers lead: to this healer, elsewhere, or nobody can tell. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from healer.doctor.checks.healer import HealerSamples

HIDDEN = "<secret>"
"""What Alertmanager 0.28 and newer show in place of a webhook's URL."""

LAST_WEBHOOK = "pgslot_heal_receiver_last_webhook_timestamp_seconds"

Webhook = Mapping[str, Any]


class Destination(StrEnum):
    """Where a receiver leads."""

    HEALER = "healer"
    """By proof, or by the look of its URL, which is to be checked."""
    ELSEWHERE = "elsewhere"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What webhooks that arrived say of a receiver, whatever its URL."""

    delivered: bool | None
    """Its webhooks come to this healer. None: neither that nor the opposite is proven."""
    text: str
    """How that is known, or why it is not."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """One of Alertmanager's, by what its configuration shows and by what has arrived."""

    name: str
    shown: tuple[Webhook, ...]
    """Its webhooks whose URL ends in /alerts, as the healer's does."""
    others: tuple[Webhook, ...]
    """Those whose URL ends otherwise: the healer's only by proof."""
    hidden: tuple[Webhook, ...]
    """Those whose URL is not shown."""
    evidence: Evidence

    @property
    def destination(self) -> Destination:
        if self.evidence.delivered and (self.shown or self.hidden or self.others):
            return Destination.HEALER
        if self.evidence.delivered is None and self.shown:
            return Destination.HEALER
        if self.evidence.delivered is None and self.hidden:
            return Destination.UNKNOWN
        return Destination.ELSEWHERE

    @property
    def candidates(self) -> tuple[Webhook, ...]:
        """Of its webhooks, one of which is the healer's, those that may be it."""
        return self.shown or (*self.hidden, *self.others)


def receivers_of(data: Any, evidence: Mapping[str, Evidence]) -> dict[str, Receiver]:
    """Return the receivers of a configuration by name. Raises KeyError, TypeError or AttributeError if it is none."""
    found = {}
    for receiver in data["receivers"]:
        name = str(receiver["name"])
        kinds: dict[str, list[Webhook]] = {"shown": [], "others": [], "hidden": []}
        for webhook in receiver.get("webhook_configs") or ():
            kinds[_kind(str(webhook.get("url") or HIDDEN))].append(webhook)
        shown, others, hidden = map(tuple, kinds.values())
        found[name] = Receiver(name, shown, others, hidden, evidence[name])
    return found


def _kind(url: str) -> str:
    if url == HIDDEN:
        return "hidden"
    return "shown" if urlsplit(url).path.endswith("/alerts") else "others"


def remembered(name: str, metrics: HealerSamples | None, loaded_at: float | None, now: float) -> Evidence:
    """
    Return what the healer's memory of webhooks says of the receiver of this name.

    `metrics` are the healer's, None when it is away; `loaded_at` is when Alertmanager took its present configuration
    into use, None when it does not say. A webhook from before that proves nothing of it. Unix times.
    """
    if metrics is None:
        return Evidence(None, "there is no healer to ask for the webhooks that it had")
    last = metrics.by_label(LAST_WEBHOOK, "receiver").get(name)
    if last is None:
        return Evidence(None, "this healer has had no webhook of it since its own start")
    if loaded_at is None:
        return Evidence(
            None, "Alertmanager does not say (/metrics) whether its configuration has changed since the last"
        )
    if last < loaded_at:
        return Evidence(None, "this healer has had no webhook of it since Alertmanager loaded its configuration")
    return Evidence(delivered=True, text=f"this healer: a webhook of it came {max(0.0, now - last):.0f} s ago")

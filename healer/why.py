"""
Why the healer did or did not act for a slot, in sentences with times: pure functions of what is remembered and known.

`explain` is the answer of the running healer; what Alertmanager and Prometheus know beyond it: doctor/alert_path.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from healer.remedies.attempt import Capability, Unavailable
from healer.remedies.progress import WELL, Outcome
from healer.slot_history import EventKind, Recollection, SlotEvent
from healer.webhook.payload import REFUSED, Action
from healer.webhook.refusals import Refusal


class Verdict(StrEnum):
    """What became of the last alert about a slot."""

    WELL = "well"
    """The wait is over, by the healer or not, or the alert has resolved: nobody has to do anything."""
    WORKING = "working"
    """An episode works on it."""
    NOT_ACTED = "not_acted"
    """The healer did not act, or in vain: a person has to."""
    UNKNOWN = "unknown"
    """This healer has received no alert about it since it can say so."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of the answer."""

    text: str
    at: float | None = None
    """Unix time; None: it is about now."""


@dataclass(frozen=True, slots=True)
class RemedyState:
    """A remedy of the slot's cluster, as it is now."""

    remedy: str
    capability: Capability | None
    """None: not checked yet."""
    calls_left: int
    dry_run: bool


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """All that the running healer knows about one slot."""

    memory: Recollection
    working: bool = False
    """An episode runs in which the slot has no outcome yet."""
    remedies: tuple[RemedyState, ...] = ()
    unconfigured: str = ""
    """Why the healer never acts on the cluster; empty: it may."""
    muted: tuple[tuple[str, str], ...] = ()
    """Names of alerts about the slot on which the healer does not act now, and what mutes each."""
    refused_webhooks: tuple[Refusal, ...] = ()
    alertmanager_error: str = ""
    """Why Alertmanager's list of alerts is not known; empty: it is, or is not asked for."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer about one slot."""

    verdict: Verdict
    sentences: tuple[Sentence, ...]
    """What happened, in order of time, then what is so now, then what is not known."""


def explain(facts: SlotFacts) -> Explanation:
    """Return the answer."""
    # Servers have slots of their own, which may have the same name.
    several = len({event.node for event in facts.memory.events}) > 1
    happened = [Sentence(_event(event, several=several), event.at) for event in facts.memory.events]
    refused = [Sentence(_refusal(refusal), refusal.first_at) for refusal in facts.refused_webhooks]
    history = sorted([*happened, *refused], key=lambda sentence: sentence.at or 0.0)
    now = [Sentence(text) for text in (*_now(facts), *_unknown(facts))]
    return Explanation(verdict(facts), (*history, *now))


def verdict(facts: SlotFacts) -> Verdict:
    """Return what became of the last alert."""
    if facts.working:
        return Verdict.WORKING
    result = Verdict.UNKNOWN
    for event in facts.memory.events:
        result = _verdict_after(event) or result
    return result


def _verdict_after(event: SlotEvent) -> Verdict | None:
    """Return what an event makes of the verdict; None: it changes nothing."""
    match event.kind:
        case EventKind.OUTCOME if event.what == Outcome.CANCELLED:
            # Why it was cancelled is known: an alert was withdrawn before, or somebody stopped the healer.
            return Verdict.WELL if event.text.startswith(_RESOLVED) else Verdict.NOT_ACTED
        case EventKind.OUTCOME:
            return Verdict.WELL if event.what in WELL else Verdict.NOT_ACTED
        case EventKind.ALERT if event.what in (Action.RESOLVED, Action.IGNORED_RESOLVED):
            return Verdict.WELL
        case EventKind.ALERT if event.what in REFUSED or event.what.startswith("ignored"):
            return Verdict.NOT_ACTED
    return None


_RESOLVED = "the alert was resolved"


def utc(unix_time: float) -> str:
    """Return a time as sentences have it."""
    return f"{datetime.fromtimestamp(unix_time, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _event(event: SlotEvent, *, several: bool) -> str:
    """Return the sentence of one event; `several`: it has to name the node."""
    match event.kind:
        case EventKind.ALERT:
            text = _alert(event)
        case EventKind.WITHDRAWN:
            text = f"its alert was {event.text}: it no longer asked for a heal"
        case EventKind.STATE:
            text = f"a look at the servers showed the slot: {event.text}"
        case EventKind.ATTEMPT:
            text = event.text
        case EventKind.NO_ROOM:
            text = "waited: the healer acted on as many clusters as clusters_at_once allows"
        case EventKind.OUTCOME:
            text = f"{_OUTCOMES[event.what]} ({event.what}): {event.text}"
    more = f" ({event.count} times until {utc(event.last_at)})" if event.count > 1 else ""
    node = f"{event.node}: " if several and event.node and event.kind is not EventKind.ALERT else ""
    return f"{node}{text}{more}"


_OUTCOMES: dict[str, str] = {
    Outcome.HEALED: "healed, and proven so",
    Outcome.RESOLVED_ITSELF: "the wait ended, and nothing proves that the healer ended it",
    Outcome.NO_EFFECT: "acted, but without effect",
    Outcome.GAVE_UP: "gave up",
    Outcome.UNAVAILABLE: "could not act",
    Outcome.CANCELLED: "stopped",
    Outcome.DRY_RUN: "did nothing, as dry_run is set",
    Outcome.REFUSED: "did not act, because a guard refused",
    Outcome.ERROR: "failed because of a bug of the healer",
}


def _alert(event: SlotEvent) -> str:
    name = f"{event.alertname or 'an alert without a name'} about the slot{f' on {event.node}' if event.node else ''}"
    match event.what:
        case Action.STARTED:
            return f"{name} arrived and began an episode of the remedy {event.remedy}"
        case Action.JOINED:
            return f"{name} arrived and joined the episode of the remedy {event.remedy}"
        case Action.RESOLVED:
            return f"{name} resolved, and left its episode"
        case Action.IGNORED_RESOLVED:
            return f"{name} resolved; no episode had it"
        case Action.REFUSED_BUDGET | Action.REFUSED_FULL:
            return f"{name} was not taken (503): {event.text}; Alertmanager sends it again"
    return f"{name} was ignored: {event.text}"


def _refusal(refusal: Refusal) -> str:
    many = f"{refusal.count} webhooks were" if refusal.count > 1 else "a webhook was"
    until = f", the last at {utc(refusal.last_at)}" if refusal.count > 1 else ""
    why = _STATUSES.get(refusal.status, "see the log")
    return f"{many} refused with {refusal.status}{until}: {why}; whether this slot was in it is not known"


_STATUSES = {
    400: "not a webhook of Alertmanager or Grafana",
    401: "the token or password differs, or doctor checked that one is needed",
    413: "too large",
    415: "compressed",
    503: "no budget was left, or the healer was busy, and Alertmanager sends it again",
}


def _now(facts: SlotFacts) -> Iterator[str]:
    if facts.unconfigured:
        yield facts.unconfigured
    for name, why in facts.muted:
        yield f"{name} about this slot fires now and is {why}: the healer does not act on it"
    for state in facts.remedies:
        capability = state.capability
        if capability is not None and capability.reason is Unavailable.DISABLED:
            yield f"healing is switched off now: {capability.advice}"
        elif capability is not None and capability.reason is not None:
            why = f"{capability.reason}. {capability.advice}"
            yield f"the healer cannot act on this cluster now ({state.remedy}): {why}"
        if state.dry_run:
            yield f"dry_run is set: the remedy {state.remedy} only reports what it would do"
        if not state.calls_left:
            yield f"the remedy {state.remedy} has no calls left within this hour on this cluster"
    if facts.working:
        yield "an episode works on this slot now"


def _unknown(facts: SlotFacts) -> Iterator[str]:
    if facts.alertmanager_error:
        yield f"which alerts fire now is not known: Alertmanager gives no valid answer: {facts.alertmanager_error}"
    memory = facts.memory
    since = utc(memory.known_since)
    if not any(event.kind is EventKind.ALERT for event in memory.events):
        yield f"no alert about this slot has reached this healer since {since}"
    because = "older entries were dropped" if memory.dropped else "this healer remembers from its start, for one day"
    yield f"unknown before {since}: {because}"

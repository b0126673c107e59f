"""What the healer did for one slot, and why: as JSON at /why, and as a page at /slots/CLUSTER/NAME."""

import time
from dataclasses import asdict
from typing import Any

from aiohttp import web

from healer.capability import CapabilityMonitor
from healer.episodes.manager import EpisodeManager
from healer.remedies.registry import REMEDIES
from healer.remedies.slot_state import SlotKey
from healer.slot_history import Recollection
from healer.webhook.reconcile import AlertmanagerStatus
from healer.webhook.refusals import RefusedWebhooks
from healer.why import Explanation, RemedyState, SlotFacts, Verdict, explain, utc
from pgslot.config.model import Config
from pgslot.pages.frame import REFRESH_SECONDS, REFRESHING_HEADERS, environment

MAX_CLUSTERS = 20
"""In which one answer looks for slots of the same name; it says how many more there are."""
MAX_MUTED = 20
MAX_NAME_CHARACTERS = 200

_TEMPLATES = environment("healer")
_VERDICT_CLASSES = {Verdict.WELL: "good", Verdict.WORKING: "busy", Verdict.NOT_ACTED: "bad", Verdict.UNKNOWN: "off"}
_VERDICTS = {
    Verdict.WELL: "the last wait is over",
    Verdict.WORKING: "the healer works on it",
    Verdict.NOT_ACTED: "the healer did not act, or in vain",
    Verdict.UNKNOWN: "the healer knows of no alert about it",
}


class SlotQuestions:
    """Answers the question why, from what the parts of the program know now."""

    def __init__(self, manager: EpisodeManager, monitor: CapabilityMonitor, refused: RefusedWebhooks) -> None:
        self._manager = manager
        self._monitor = monitor
        self._refused = refused

    def facts(
        self, slot_name: str, cluster: str | None, config: Config, status: AlertmanagerStatus | None
    ) -> list[SlotFacts]:
        """
        Return what is known of the slots of this name, those with events first; never empty.

        `cluster` None: of every cluster. `status`: Alertmanager's, None: it is not asked.
        """
        history = self._manager.history
        found = history.recall(slot_name, cluster) or [history.nothing(slot_name, cluster or "")]
        return [self._facts(memory, config, status) for memory in found]

    def _facts(self, memory: Recollection, config: Config, status: AlertmanagerStatus | None) -> SlotFacts:
        cluster = next((cluster for cluster in config.clusters if cluster.name == memory.cluster), None)
        unconfigured = ""
        if cluster is None and memory.cluster:
            unconfigured = f"the configuration of this healer has no cluster {memory.cluster!r}"
        elif cluster is not None and cluster.healer is None:
            unconfigured = f"the cluster {memory.cluster} has no healer section: it is only observed"
        running = [episode for episode in self._manager.running if episode.cluster.name == memory.cluster]
        remedies = (
            ()
            if cluster is None
            else tuple(
                RemedyState(
                    name,
                    self._monitor.capabilities.get((cluster.name, name)),
                    self._manager.calls_left(cluster.name, name),
                    target.dry_run,
                )
                for name, remedy in REMEDIES.items()
                if (target := remedy.target(cluster)) is not None
            )
        )
        return SlotFacts(
            memory,
            working=any(_has(episode.open_slots, memory.slot_name) for episode in running),
            remedies=remedies,
            unconfigured=unconfigured,
            muted=_muted(memory, status),
            refused_webhooks=self._refused.recent,
            alertmanager_error=status.error if status is not None and status.up is False else "",
        )


def _has(slots: dict[SlotKey, Any], slot_name: str) -> bool:
    return any(key.slot_name == slot_name for key in slots)


def _muted(memory: Recollection, status: AlertmanagerStatus | None) -> tuple[tuple[str, str], ...]:
    if status is None or not status.up:
        return ()
    return tuple(
        (alert.labels.get("alertname", "an alert"), why)
        for alert, why in status.muted
        if alert.labels.get("slot_name") == memory.slot_name and memory.cluster in ("", alert.labels.get("cluster"))
    )[:MAX_MUTED]


def requested_slot(request: web.Request) -> tuple[str, str | None]:
    """Return the slot and the cluster, None: any, that /why is asked about. Raises HTTPBadRequest."""
    slot, cluster = request.query.get("slot", ""), request.query.get("cluster")
    if not 0 < len(slot) <= MAX_NAME_CHARACTERS or len(cluster or "") > MAX_NAME_CHARACTERS:
        raise web.HTTPBadRequest(text=f"expected slot=NAME, of at most {MAX_NAME_CHARACTERS} characters\n")
    return slot, cluster


def as_json(facts: list[SlotFacts]) -> dict[str, Any]:
    """Return the answer of /why."""
    return {
        "now": time.time(),
        "slots": [_slot_as_json(slot, explain(slot)) for slot in facts[:MAX_CLUSTERS]],
        "left_off": max(0, len(facts) - MAX_CLUSTERS),
    }


def _slot_as_json(facts: SlotFacts, explanation: Explanation) -> dict[str, Any]:
    memory = facts.memory
    return {
        "cluster": memory.cluster,
        "slot_name": memory.slot_name,
        "verdict": explanation.verdict,
        "known_since": memory.known_since,
        "dropped": memory.dropped,
        "sentences": [asdict(sentence) for sentence in explanation.sentences],
        "events": [asdict(event) for event in memory.events],
    }


def slot_page(facts: SlotFacts) -> web.Response:
    """Return the page about one slot, all values escaped."""
    explanation = explain(facts)
    text = _TEMPLATES.get_template("slot.html").render(
        slot=facts.memory,
        now=utc(time.time()),
        verdict=_VERDICTS[explanation.verdict],
        verdict_class=_VERDICT_CLASSES[explanation.verdict],
        happened=[sentence for sentence in explanation.sentences if sentence.at is not None],
        present=[sentence for sentence in explanation.sentences if sentence.at is None],
        utc=utc,
        refresh_seconds=REFRESH_SECONDS,
    )
    return web.Response(content_type="text/html", text=text, headers=REFRESHING_HEADERS)

"""
The five stories of the product, each on real servers: the demo shows them, the end-to-end tests assert them.

A story returns what it found out as checks. Whatever it tells was observed: in a server, in the exporter's metrics, in
Prometheus' and Alertmanager's APIs, or in the healer's log.
"""

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.support.servers.stack import CLUSTER, PRIMARY_NODE, STANDBY_NODE, Stack

THRESHOLDS = {"PgSlotCreationStuck": "5", "PgSlotCreationBlocked": "5"}
"""Seconds, in place of the shipped rules' 30 and 60: nobody wants to watch a demo wait."""

CONTROL_SECONDS = 26.0
"""Longer than the 25 s within which a background writer logs a record if it has a reason to."""

SUBSCRIPTION_CONTROL_SECONDS = 10.0
ROWS = 1000

Found = TypeVar("Found")


@dataclass(frozen=True)
class Check:
    """One claim of a story, and whether it held."""

    claim: str
    held: bool


class Scene:
    """The stack, and somebody to tell what is seen on it."""

    def __init__(
        self,
        stack: Stack,
        tell: Callable[[str, str, float | None], None],
        progress: Callable[[str, float], None] = lambda _what, _seconds: None,
    ) -> None:
        self.stack = stack
        self._tell = tell
        self._progress = progress
        self._log_read = 0

    def tell(self, source: str, text: str, at: float | None = None) -> None:
        """Tell what a source showed; `at` is Unix time, None now."""
        self._tell(source, text, at)

    def until(self, what: str, condition: Callable[[], Found | None], timeout: float = 60.0) -> Found:
        """Poll until the condition gives something; the healer's log is told meanwhile. Raises TimeoutError."""
        started = time.monotonic()
        while True:
            found = condition()
            self.relay_log()
            if found is not None and found is not False:
                return found
            waited = time.monotonic() - started
            if waited > timeout:
                raise TimeoutError(f"not within {timeout:.0f} s: {what}")
            self._progress(what, waited)
            time.sleep(0.05)

    def stays(self, what: str, seconds: float, condition: Callable[[], bool], since: float | None = None) -> bool:
        """Return whether the condition held all the time for so many seconds; `since`: time.monotonic(), None now."""
        started = time.monotonic() if since is None else since
        while (waited := time.monotonic() - started) < seconds:
            if not condition():
                return False
            self.relay_log()
            self._progress(what, waited)
            time.sleep(0.05)
        return condition()

    def start_healer(self, *, may_execute: bool = True) -> None:
        """Start the healer with a new log; with or without the privilege that it needs."""
        self.stack.stop_healer()
        self._log_read = 0
        self.stack.start_healer(may_execute=may_execute)
        self.relay_log()

    def relay_log(self) -> None:
        """Tell the healer's new log lines."""
        if not self.stack.healer_running:
            return
        events = self.stack.healer.log_events()
        for line in events[self._log_read :]:
            text = _shown(line)
            if text:
                self.tell("healer", text, line["at"])
        self._log_read = len(events)

    def waiting(self, slot: str) -> str | None:
        """Return the reason why the slot's creation waits, as the exporter's metrics have it."""
        for sample in self.stack.exporter.samples("pgslot_creation_wait_reason", slot_name=slot):
            if sample.value == 1:
                return sample.labels["reason"]
        return None

    def known_reason(self, slot: str) -> str | None:
        """Return the reason once it is not unknown, as it is for the moment between two waits."""
        reason = self.waiting(slot)
        return None if reason == "unknown" else reason

    def firing(self, alert: str, slot: str) -> dict[str, Any] | None:
        """Return the firing alert as Prometheus' API has it."""
        for found in self.stack.prometheus.alerts():
            labels = found["labels"]
            if found["state"] == "firing" and (labels["alertname"], labels.get("slot_name")) == (alert, slot):
                return found
        return None

    def ended(self, slot: str) -> dict[str, Any] | None:
        """Return the first episode about this slot that has ended, from the healer's /episodes."""
        for episode in reversed(self.stack.healer.get_json("/episodes")):
            slots = [subject["slot_name"] for subject in episode["subjects"]]
            if slot in slots and episode["outcome"] is not None:
                return dict(episode)
        return None


def control(scene: Scene) -> list[Check]:
    """Without the healer, a slot on the standby of an idle primary hangs."""
    stack = scene.stack
    stack.stop_healer()
    scene.tell("demo", "the healer is off; waiting until the primary is idle (its last WAL record is the bgwriter's)")
    stack.wait_until_idle()
    scene.tell("primary", "idle")
    with stack.standby.create_slot("control") as creator:
        scene.tell("client", "CREATE_REPLICATION_SLOT control on the standby")
        started = time.monotonic()
        reason = scene.until("the exporter sees the wait", lambda: scene.known_reason("control"))
        scene.tell("exporter", f"slot control on {STANDBY_NODE} waits for {reason}")
        alert = scene.until("Prometheus fires", lambda: scene.firing("PgSlotCreationStuck", "control"))
        scene.tell("prometheus", f"{alert['labels']['alertname']} fires")
        hung = scene.stays("the control period ends", CONTROL_SECONDS, lambda: not creator.done, since=started)
        seconds = time.monotonic() - started
        scene.tell("client", f"{'still hanging' if hung else 'it came back by itself'} after {seconds:.1f} s")
    drop_slot(scene, "control")
    return [
        Check(f"hangs for at least {CONTROL_SECONDS:.0f} s without the healer", hung),
        Check("the exporter says why: running_xacts", reason == "running_xacts"),
        Check("PgSlotCreationStuck fires", bool(alert)),
    ]


def healed(scene: Scene) -> list[Check]:
    """With the healer, the whole chain runs and the slot becomes usable."""
    stack = scene.stack
    scene.tell("demo", "the healer starts; undelivered webhooks come late now, and change nothing")
    scene.start_healer()
    stack.wait_until_idle()
    with stack.standby.create_slot("healed") as creator:
        started = time.monotonic()
        scene.tell("client", "CREATE_REPLICATION_SLOT healed on the standby")
        reason = scene.until("the exporter sees the wait", lambda: scene.known_reason("healed"))
        scene.tell("exporter", f"slot healed on {STANDBY_NODE} waits for {reason}")
        # The healer is faster than the next poll of Prometheus' page, so that a usable slot ends this wait as well.
        alert = scene.until(
            "the alert fires", lambda: scene.firing("PgSlotCreationStuck", "healed") or (creator.done or None)
        )
        if isinstance(alert, dict):
            scene.tell("prometheus", f"{alert['labels']['alertname']} fires")
        scene.until("the slot is usable", lambda: creator.done or None)
        seconds = time.monotonic() - started
        scene.tell("client", f"slot created after {seconds:.1f} s" if not creator.error else f"failed: {creator.error}")
        episode = scene.until("the episode ends", lambda: scene.ended("healed"))
        created = creator.error is None
    usable = stack.standby.sql(
        "SELECT confirmed_flush_lsn IS NOT NULL FROM pg_catalog.pg_replication_slots WHERE slot_name = 'healed'"
    )
    counted = stack.healer.value("pgslot_heal_episodes_total", cluster=CLUSTER, outcome="healed")
    drop_slot(scene, "healed")
    return [
        Check("the slot is created and usable", created and usable == [(True,)]),
        Check(
            "the outcome is healed, with at least one call", episode["outcome"] == "healed" and episode["calls"] >= 1
        ),
        Check("the metrics count it", bool(counted)),
        Check("effect within 2 s of the first call", (episode["heal_seconds"] or 99) < 2),
    ]


def consumer(scene: Scene) -> list[Check]:
    """CREATE SUBSCRIPTION on a standby hangs twice (its slot, then its table's), and finishes with the healer."""
    stack = scene.stack
    stack.stop_healer()
    stack.wait_until_idle()
    with stack.subscribe() as subscription:
        scene.tell("consumer", "CREATE SUBSCRIPTION shop, its publisher is the standby; the healer is off")
        hung = scene.stays("the control period ends", SUBSCRIPTION_CONTROL_SECONDS, lambda: not subscription.done)
        reason = scene.until("the exporter sees the wait", lambda: scene.known_reason("shop"))
        scene.tell("exporter", f"slot shop on {STANDBY_NODE} waits for {reason}")
        scene.tell("consumer", f"{'still hanging' if hung else 'done'} after {SUBSCRIPTION_CONTROL_SECONDS:.0f} s")
        scene.start_healer()
        scene.until("CREATE SUBSCRIPTION returns", lambda: subscription.done or None)
        scene.tell("consumer", "CREATE SUBSCRIPTION returned; its table is copied next, through a slot of its own")
        # It may be made by the next record that is forced for the first one, and be gone before anybody has seen it.
        sync = scene.until(
            "the table's slot waits", lambda: sync_slot(scene) or ("" if stack.consumer_rows() else None)
        )
        if sync:
            reason = scene.waiting(sync) or "nothing any more"
            scene.tell("exporter", f"slot {sync} on {STANDBY_NODE} waits for {reason}")
        rows = scene.until("the rows arrive", lambda: stack.consumer_rows() or None)
        scene.tell("consumer", f"{rows} rows have arrived")
        main_episode = scene.until("the first episode ends", lambda: scene.ended("shop"))
        sync_episode = scene.until("the second episode ends", lambda: scene.ended(sync)) if sync else main_episode
    stack.unsubscribe()
    return [
        Check(f"CREATE SUBSCRIPTION hangs for {SUBSCRIPTION_CONTROL_SECONDS:.0f} s without the healer", hung),
        Check("it returns with the healer", main_episode["outcome"] == "healed"),
        Check("its table's slot, which waits as well, is called for too", sync_episode["calls"] >= 1),
        Check(f"all {ROWS} rows arrive", rows == ROWS),
    ]


def blocked(scene: Scene) -> list[Check]:
    """On the primary an open transaction blocks; it is named, and its end is not claimed as a success."""
    stack = scene.stack
    if not stack.healer_running:
        scene.start_healer()
    with ExitStack() as open_things:
        holder = open_things.enter_context(stack.primary.hold_transaction(application_name="nightly-report"))
        scene.tell("client", f"BEGIN; an xid is assigned (pid {holder.pid}, nightly-report), and no COMMIT")
        creator = open_things.enter_context(stack.primary.create_slot("blocked"))
        scene.tell("client", "CREATE_REPLICATION_SLOT blocked on the primary")
        reason = scene.until("the exporter sees the wait", lambda: scene.known_reason("blocked"))
        [blocker] = scene.until(
            "the exporter names the blocker",
            lambda: stack.exporter.samples("pgslot_creation_blocker_age_seconds", slot_name="blocked") or None,
        )
        who = blocker.labels
        scene.tell(
            "exporter",
            f"waits for {reason}: pid {who['pid']}, user {who['usename']}, application {who['application_name']},"
            f" {who['state']}, {blocker.value:.1f} s old",
        )
        alert = scene.until("Prometheus fires", lambda: scene.firing("PgSlotCreationBlocked", "blocked"))
        description = " ".join(alert["annotations"]["description"].split())
        scene.tell("prometheus", f"PgSlotCreationBlocked fires: {description}")
        scene.until("the healer looks at it", lambda: any_episode(scene, "blocked"))
        held_on = scene.stays("two more seconds have passed", 2.0, lambda: not creator.done)
        scene.tell("client", "COMMIT")
        holder.commit()
        scene.until("the slot is created", lambda: creator.done or None)
        scene.tell("client", "slot created" if creator.error is None else f"failed: {creator.error}")
        episode = scene.until("the episode ends", lambda: scene.ended("blocked"))
    drop_slot(scene, "blocked")
    named = (who["pid"], who["application_name"], who["usename"]) == (str(holder.pid), "nightly-report", "postgres")
    return [
        Check("the exporter names pid, user, application and age", named and blocker.value > 0),
        Check("the alert names the blocker", str(holder.pid) in description and "nightly-report" in description),
        Check("forced records do not end the wait while the transaction is open", held_on),
        Check("the healer's verdict: resolved_itself", episode["outcome"] == "resolved_itself"),
    ]


def no_capability(scene: Scene) -> list[Check]:
    """A healer without the privilege says so before any alert, with the GRANT that works."""
    stack = scene.stack
    # What the stories before leave behind ends within some seconds.
    scene.until("no alert about a slot is left", lambda: not _about_slots(scene) or None)
    scene.start_healer(may_execute=False)
    reason = scene.until("the gauge is set", lambda: unavailable(scene))
    # Webhooks may have arrived, of an alert before that has ended, or the heartbeat.
    episodes = stack.healer.get_json("/episodes")
    scene.tell("healer", f'pgslot_heal_capability_unavailable{{cluster="{CLUSTER}",reason="{reason}"}} 1')
    remedy = next(line["remedy"] for line in stack.healer.log_events() if line.get("reason") == reason)
    grant = re.search(r"GRANT .*;", remedy)
    assert grant is not None, remedy
    stack.primary.sql(grant[0])
    scene.tell("client", grant[0])
    scene.start_healer(may_execute=False)
    cleared = scene.until("the gauge is known again", lambda: unavailable(scene) or "none")
    scene.tell("healer", f"reason now: {cleared}")
    stack.primary.sql(grant[0].replace("GRANT", "REVOKE").replace(" TO ", " FROM "))
    return [
        Check("the gauge says missing_privilege", reason == "missing_privilege"),
        Check("before any alert arrived", not episodes),
        Check("the log has the exact GRANT, and it works", cleared == "none"),
    ]


STORIES = {
    "Control: the healer off, an idle primary, a slot on the standby": control,
    "Healed: the same with the healer on": healed,
    "A real consumer: CREATE SUBSCRIPTION, its publisher is the standby": consumer,
    "The blocked primary: an open transaction": blocked,
    "No capability: a healer without EXECUTE": no_capability,
}


def drop_slot(scene: Scene, slot: str) -> None:
    """Remove a slot wherever it is, and wait until the alert about it has ended."""
    scene.stack.drop_slot(slot)
    scene.until("Alertmanager has no alert about the slot", lambda: not _alerted(scene, slot) or None)


def _alerted(scene: Scene, slot: str) -> bool:
    return slot in _about_slots(scene)


def _about_slots(scene: Scene) -> set[str]:
    """Return the slots that Alertmanager has alerts about."""
    alerts = scene.stack.alertmanager.alerts()
    return {alert["labels"]["slot_name"] for alert in alerts if "slot_name" in alert["labels"]}


def sync_slot(scene: Scene) -> str | None:
    """Return the name of a table synchronisation's slot that is or was in creation."""
    for sample in scene.stack.exporter.samples("pgslot_creation_wait_seconds", node=STANDBY_NODE):
        if re.fullmatch(r"pg_\d+_sync_\d+_\d+", sample.labels["slot_name"]):
            return sample.labels["slot_name"]
    return None


def any_episode(scene: Scene, slot: str) -> bool | None:
    """Return True once the healer has an episode about this slot in which it has seen the slot."""
    for episode in scene.stack.healer.get_json("/episodes"):
        if slot in [subject["slot_name"] for subject in episode["subjects"]] and episode["reasons"]:
            return True
    return None


def unavailable(scene: Scene) -> str | None:
    """Return the reason that the capability gauge shows."""
    for sample in scene.stack.healer.samples("pgslot_heal_capability_unavailable", cluster=CLUSTER):
        if sample.value == 1:
            return sample.labels["reason"]
    return None


def _shown(line: dict[str, Any]) -> str:
    """Return a line of the healer's log as a person reads it; empty for what the timeline leaves out."""
    match line["msg"]:
        case "webhook received":
            return f"webhook received: {line['alerts']} alert(s)"
        case "asked Alertmanager for running alerts":
            return f"asked Alertmanager what fires already: {line['alerts']} alert(s)"
        case "slot seen":
            held = f", held by {line['blocker']}" if "blocker" in line else ""
            return f"slot {line['slot']} on {line['node']}: {line['state']} {line.get('reason', '')}".rstrip() + held
        case "called pg_log_standby_snapshot()":
            return f"pg_log_standby_snapshot() on the primary: record at {line['lsn']}"
        case "episode ended":
            took = f", {line['heal_seconds']:.2f} s after the first call" if "heal_seconds" in line else ""
            return f"episode ended: {line['outcome']} ({line['why']}), {line['calls']} call(s){took}"
        case "cannot heal this cluster if it has to be":
            return f"cannot heal: {line['reason']}. {line['remedy']}"
        case _:
            return ""


__all__ = ["PRIMARY_NODE", "STORIES", "Check", "Scene"]

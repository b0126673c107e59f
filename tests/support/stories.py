"""
The five stories of the product on real servers: the demo shows them, the end-to-end tests assert their claims.

A story returns its claims as checks. Everything that it reports was observed: on a server, in the exporter's metrics,
in the APIs of Prometheus and Alertmanager, or in the healer's log.
"""

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.support.servers.stack import CLUSTER, PRIMARY_NODE, STANDBY_NODE, Stack

THRESHOLDS = {"PgSlotCreationStuck": "5", "PgSlotCreationBlocked": "5"}
"""Seconds, in place of the shipped rules' 30 and 60, to keep the demo short."""

CONTROL_SECONDS = 26.0
"""Longer than the 25 s within which a background writer logs a record if it has a reason to."""

SUBSCRIPTION_CONTROL_SECONDS = 10.0
ROWS = 1000

Result = TypeVar("Result")


@dataclass(frozen=True)
class Check:
    """One claim of a story, and whether it held."""

    claim: str
    held: bool


class Scene:
    """The stack, and callbacks that show what is observed on it."""

    def __init__(
        self,
        stack: Stack,
        report: Callable[[str, str, float | None], None],
        progress: Callable[[str, float], None] = lambda _what, _seconds: None,
    ) -> None:
        self.stack = stack
        self._report = report
        self._progress = progress
        self._log_read = 0

    def report(self, source: str, text: str, at: float | None = None) -> None:
        """Report what a source showed; `at` is Unix time, None now."""
        self._report(source, text, at)

    def until(self, what: str, condition: Callable[[], Result | None], timeout: float = 60.0) -> Result:
        """Poll until the condition returns a result, and relay the healer's log meanwhile. Raises TimeoutError."""
        started = time.monotonic()
        while True:
            result = condition()
            self.relay_log()
            if result is not None and result is not False:
                return result
            waited = time.monotonic() - started
            if waited > timeout:
                raise TimeoutError(f"not within {timeout:.0f} s: {what}")
            self._progress(what, waited)
            time.sleep(0.05)

    def stays(self, what: str, seconds: float, condition: Callable[[], bool], since: float | None = None) -> bool:
        """Return whether the condition held for all of these seconds; `since`: time.monotonic(), None now."""
        started = time.monotonic() if since is None else since
        while (waited := time.monotonic() - started) < seconds:
            if not condition():
                return False
            self.relay_log()
            self._progress(what, waited)
            time.sleep(0.05)
        return condition()

    def start_healer(self, *, may_execute: bool = True) -> None:
        """Start the healer with a new log, with or without the privilege that it needs."""
        self.stack.stop_healer()
        self._log_read = 0
        self.stack.start_healer(may_execute=may_execute)
        self.relay_log()

    def relay_log(self) -> None:
        """Report the new lines of the healer's log."""
        if not self.stack.healer_running:
            return
        events = self.stack.healer.log_events()
        for line in events[self._log_read :]:
            text = _shown(line)
            if text:
                self.report("healer", text, line["at"])
        self._log_read = len(events)

    def reported_wait_reason(self, slot: str) -> str | None:
        """Return why the slot's creation waits, by the exporter's metrics; None if it does not wait."""
        for sample in self.stack.exporter.samples("pgslot_creation_wait_reason", slot_name=slot):
            if sample.value == 1:
                return sample.labels["reason"]
        return None

    def wait_reason(self, slot: str) -> str | None:
        """Return the reason; None while it is unknown, as it is for a moment between two waits."""
        reason = self.reported_wait_reason(slot)
        return None if reason == "unknown" else reason

    def firing(self, alert: str, slot: str) -> dict[str, Any] | None:
        """Return the firing alert from Prometheus' API; None if it does not fire."""
        for active in self.stack.prometheus.alerts():
            labels = active["labels"]
            if active["state"] == "firing" and (labels["alertname"], labels.get("slot_name")) == (alert, slot):
                return active
        return None

    def ended_episode(self, slot: str) -> dict[str, Any] | None:
        """Return the first ended episode about this slot from the healer's /episodes; None if there is none."""
        for episode in reversed(self.stack.healer.get_json("/episodes")):
            slots = [subject["slot_name"] for subject in episode["subjects"]]
            if slot in slots and episode["outcome"] is not None:
                return dict(episode)
        return None


def control(scene: Scene) -> list[Check]:
    """Without the healer, a slot on the standby of an idle primary hangs."""
    stack = scene.stack
    stack.stop_healer()
    # The first listing of the WAL directory after the grants prunes a page of pg_proc. That writes WAL, and so brings
    # the record that the slot is to wait for in vain.
    stack.exporter.get("/metrics")
    scene.report("demo", "the healer is off; waiting until the primary is idle (its last WAL record is the bgwriter's)")
    stack.wait_until_idle()
    scene.report("primary", "idle")
    with stack.standby.create_slot("control") as creator:
        scene.report("client", "CREATE_REPLICATION_SLOT control on the standby")
        started = time.monotonic()
        reason = scene.until("the exporter sees the wait", lambda: scene.wait_reason("control"))
        scene.report("exporter", f"slot control on {STANDBY_NODE} waits for {reason}")
        alert = scene.until("Prometheus fires", lambda: scene.firing("PgSlotCreationStuck", "control"))
        scene.report("prometheus", f"{alert['labels']['alertname']} fires")
        hung = scene.stays("the control period ends", CONTROL_SECONDS, lambda: not creator.done, since=started)
        seconds = time.monotonic() - started
        scene.report("client", f"{'still hanging' if hung else 'it came back by itself'} after {seconds:.1f} s")
    drop_slot(scene, "control")
    return [
        Check(f"hangs for at least {CONTROL_SECONDS:.0f} s without the healer", hung),
        Check("the exporter says why: running_xacts", reason == "running_xacts"),
        Check("PgSlotCreationStuck fires", bool(alert)),
    ]


def healed(scene: Scene) -> list[Check]:
    """With the healer, the whole chain runs and the slot becomes usable."""
    stack = scene.stack
    scene.report("demo", "the healer starts; undelivered webhooks come late now, and change nothing")
    scene.start_healer()
    stack.wait_until_idle()
    with stack.standby.create_slot("healed") as creator:
        started = time.monotonic()
        scene.report("client", "CREATE_REPLICATION_SLOT healed on the standby")
        reason = scene.until("the exporter sees the wait", lambda: scene.wait_reason("healed"))
        scene.report("exporter", f"slot healed on {STANDBY_NODE} waits for {reason}")
        # The healer may act before the next poll of Prometheus' API, so a usable slot ends this wait as well.
        alert = scene.until(
            "the alert fires", lambda: scene.firing("PgSlotCreationStuck", "healed") or (creator.done or None)
        )
        if isinstance(alert, dict):
            scene.report("prometheus", f"{alert['labels']['alertname']} fires")
        scene.until("the slot is usable", lambda: creator.done or None)
        seconds = time.monotonic() - started
        scene.report(
            "client", f"slot created after {seconds:.1f} s" if not creator.error else f"failed: {creator.error}"
        )
        episode = scene.until("the episode ends", lambda: scene.ended_episode("healed"))
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
    """CREATE SUBSCRIPTION on a standby hangs for its slot and for its table's slot, and finishes with the healer."""
    stack = scene.stack
    stack.stop_healer()
    stack.wait_until_idle()
    with stack.subscribe() as subscription:
        scene.report("consumer", "CREATE SUBSCRIPTION shop, its publisher is the standby; the healer is off")
        hung = scene.stays("the control period ends", SUBSCRIPTION_CONTROL_SECONDS, lambda: not subscription.done)
        reason = scene.until("the exporter sees the wait", lambda: scene.wait_reason("shop"))
        scene.report("exporter", f"slot shop on {STANDBY_NODE} waits for {reason}")
        scene.report("consumer", f"{'still hanging' if hung else 'done'} after {SUBSCRIPTION_CONTROL_SECONDS:.0f} s")
        scene.start_healer()
        scene.until("CREATE SUBSCRIPTION returns", lambda: subscription.done or None)
        scene.report("consumer", "CREATE SUBSCRIPTION returned; its table is copied next, through a slot of its own")
        # A record forced for the first slot may complete this one, too; it may be gone before a poll sees it.
        sync = scene.until(
            "the table's slot waits", lambda: sync_slot(scene) or ("" if stack.consumer_rows() else None)
        )
        if sync:
            reason = scene.reported_wait_reason(sync) or "nothing any more"
            scene.report("exporter", f"slot {sync} on {STANDBY_NODE} waits for {reason}")
        rows = scene.until("the rows arrive", lambda: stack.consumer_rows() or None)
        scene.report("consumer", f"{rows} rows have arrived")
        main_episode = scene.until("the first episode ends", lambda: scene.ended_episode("shop"))
        sync_episode = (
            scene.until("the second episode ends", lambda: scene.ended_episode(sync)) if sync else main_episode
        )
    stack.unsubscribe()
    return [
        Check(f"CREATE SUBSCRIPTION hangs for {SUBSCRIPTION_CONTROL_SECONDS:.0f} s without the healer", hung),
        Check("it returns with the healer", main_episode["outcome"] == "healed"),
        Check("its table's slot, which waits as well, is called for too", sync_episode["calls"] >= 1),
        Check(f"all {ROWS} rows arrive", rows == ROWS),
    ]


def blocked(scene: Scene) -> list[Check]:
    """An open transaction on the primary blocks a slot; it is named, and its end is not claimed as a success."""
    stack = scene.stack
    if not stack.healer_running:
        scene.start_healer()
    with ExitStack() as cleanup:
        holder = cleanup.enter_context(stack.primary.hold_transaction(application_name="nightly-report"))
        scene.report("client", f"BEGIN; an xid is assigned (pid {holder.pid}, nightly-report), and no COMMIT")
        creator = cleanup.enter_context(stack.primary.create_slot("blocked"))
        scene.report("client", "CREATE_REPLICATION_SLOT blocked on the primary")
        reason = scene.until("the exporter sees the wait", lambda: scene.wait_reason("blocked"))
        [blocker] = scene.until(
            "the exporter names the blocker",
            lambda: stack.exporter.samples("pgslot_creation_blocker_age_seconds", slot_name="blocked") or None,
        )
        blocker_labels = blocker.labels
        scene.report(
            "exporter",
            f"waits for {reason}: pid {blocker_labels['pid']}, user {blocker_labels['usename']}, "
            f"application {blocker_labels['application_name']}, {blocker_labels['state']}, {blocker.value:.1f} s old",
        )
        alert = scene.until("Prometheus fires", lambda: scene.firing("PgSlotCreationBlocked", "blocked"))
        description = " ".join(alert["annotations"]["description"].split())
        scene.report("prometheus", f"PgSlotCreationBlocked fires: {description}")
        scene.until("the healer looks at it", lambda: slot_seen_by_healer(scene, "blocked"))
        still_blocked = scene.stays("two more seconds have passed", 2.0, lambda: not creator.done)
        scene.report("client", "COMMIT")
        holder.commit()
        scene.until("the slot is created", lambda: creator.done or None)
        scene.report("client", "slot created" if creator.error is None else f"failed: {creator.error}")
        episode = scene.until("the episode ends", lambda: scene.ended_episode("blocked"))
    drop_slot(scene, "blocked")
    named = (blocker_labels["pid"], blocker_labels["application_name"], blocker_labels["usename"]) == (
        str(holder.pid),
        "nightly-report",
        "postgres",
    )
    return [
        Check("the exporter names pid, user, application and age", named and blocker.value > 0),
        Check("the alert names the blocker", str(holder.pid) in description and "nightly-report" in description),
        Check("forced records do not end the wait while the transaction is open", still_blocked),
        Check("the healer's verdict: resolved_itself", episode["outcome"] == "resolved_itself"),
    ]


def no_capability(scene: Scene) -> list[Check]:
    """A healer without the privilege reports that before any alert, with the GRANT that fixes it."""
    stack = scene.stack
    # Alerts of the previous stories end within some seconds.
    scene.until("no alert about a slot is left", lambda: not _alerted_slots(scene) or None)
    scene.start_healer(may_execute=False)
    reason = scene.until("the gauge is set", lambda: unavailable_reason(scene))
    # Webhooks about an alert that has ended, or the heartbeat, may have arrived; they start no episode.
    episodes = stack.healer.get_json("/episodes")
    scene.report("healer", f'pgslot_heal_capability_unavailable{{cluster="{CLUSTER}",reason="{reason}"}} 1')
    remedy = next(line["remedy"] for line in stack.healer.log_events() if line.get("reason") == reason)
    grant = re.search(r"GRANT .*;", remedy)
    assert grant is not None, remedy
    stack.primary.sql(grant[0])
    scene.report("client", grant[0])
    scene.start_healer(may_execute=False)
    cleared = scene.until("the gauge is known again", lambda: unavailable_reason(scene) or "none")
    scene.report("healer", f"reason now: {cleared}")
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
    """Drop a slot on any server and wait until the alert about it has ended."""
    scene.stack.drop_slot(slot)
    scene.until("Alertmanager has no alert about the slot", lambda: not _has_alert(scene, slot) or None)


def _has_alert(scene: Scene, slot: str) -> bool:
    return slot in _alerted_slots(scene)


def _alerted_slots(scene: Scene) -> set[str]:
    """Return the slots that Alertmanager has alerts about."""
    alerts = scene.stack.alertmanager.alerts()
    return {alert["labels"]["slot_name"] for alert in alerts if "slot_name" in alert["labels"]}


def sync_slot(scene: Scene) -> str | None:
    """Return the name of a table synchronisation slot whose creation waits or waited; None if there is none."""
    for sample in scene.stack.exporter.samples("pgslot_creation_wait_seconds", node=STANDBY_NODE):
        if re.fullmatch(r"pg_\d+_sync_\d+_\d+", sample.labels["slot_name"]):
            return sample.labels["slot_name"]
    return None


def slot_seen_by_healer(scene: Scene, slot: str) -> bool | None:
    """Return True once the healer has seen this slot in an episode, None before."""
    for episode in scene.stack.healer.get_json("/episodes"):
        if slot in [subject["slot_name"] for subject in episode["subjects"]] and episode["reasons"]:
            return True
    return None


def unavailable_reason(scene: Scene) -> str | None:
    """Return the reason that the capability gauge shows; None if it shows none."""
    for sample in scene.stack.healer.samples("pgslot_heal_capability_unavailable", cluster=CLUSTER):
        if sample.value == 1:
            return sample.labels["reason"]
    return None


def _shown(line: dict[str, Any]) -> str:
    """Return the text for a line of the healer's log; empty if the timeline leaves the line out."""
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
        case "healing is not possible for this cluster":
            return f"cannot heal: {line['reason']}. {line['remedy']}"
        case _:
            return ""


__all__ = ["PRIMARY_NODE", "STORIES", "Check", "Scene"]

"""The page at `/`: every slot, worst first, what to do, the nodes with their state, the endpoints and the runbooks."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from exporter.latest_look import LOOK_SECONDS, ClusterLook
from exporter.runbook_list import runbooks_by_severity
from pgslot import __version__
from pgslot.config.model import Config, Node
from pgslot.pages.frame import REFRESH_SECONDS, environment
from pgslot.snapshot.model import NodeSnapshot, QueryStatus
from pgslot.status import wording
from pgslot.status.advice import Step, advice
from pgslot.status.slot_status import Severity, SlotStatus

MAX_SLOTS = 200
MAX_TASKS = 20
"""The page says what to do for so many slots; each slot's own page has it as well."""
MAX_NODES = 500
MAX_CLUSTERS = 50

_TEMPLATES = environment("exporter")


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node as the page shows it. Empty texts are left out."""

    cluster: str
    name: str
    text: str
    problem: str
    when: str


def landing(config: Config, looks: Sequence[ClusterLook], *, lifecycle: bool, chosen: str | None = None) -> str:
    """
    Return the page; it names the reload endpoint only if `lifecycle` enables it.

    `looks`: of all clusters, or of the one that is `chosen`.
    """
    slots = sorted((slot for look in looks for slot in look.slots), key=lambda slot: -slot.severity)
    by_name = {look.snapshot.cluster: look for look in looks}
    nodes = [_node_row(node, by_name[cluster.name]) for cluster in config.clusters if cluster.name in by_name
             for node in cluster.nodes]  # fmt: skip
    attention = [slot for slot in slots if slot.needs_attention]
    return _TEMPLATES.get_template("landing.html").render(
        version=__version__,
        wide=True,
        refresh_seconds=REFRESH_SECONDS,
        now=utc(time.time() - max((age for look in looks for age in look.ages.values()), default=0.0)),
        clusters=[cluster.name for cluster in config.clusters],
        chosen=chosen,
        attention=len(attention),
        summary=_summary(slots, nodes),
        slots=slots,
        nothing_seen=not any(node.slots is not None for look in looks for node in look.snapshot.nodes),
        tasks=[(slot, advised) for slot in attention[:MAX_TASKS] if (advised := advice(slot))],
        nodes=nodes,
        runbooks=runbooks_by_severity(),
        lifecycle=lifecycle,
        look_seconds=round(LOOK_SECONDS),
        max_slots=MAX_SLOTS,
        max_nodes=MAX_NODES,
        max_clusters=MAX_CLUSTERS,
        wording=wording,
        slot_path=slot_path,
        runbook_of=runbook_of,
    )


def slot_path(slot: SlotStatus) -> str:
    """Return the address of a slot's page, as seen from `/`."""
    return "slots/" + "/".join(quote(name, safe="") for name in (slot.cluster, slot.node, slot.slot_name))


def runbook_of(slot: SlotStatus) -> str | None:
    """Return the alert whose runbook is about what is wrong with the slot; None: nothing is, or no runbook is."""
    return next((step.runbook for step in _steps(slot) if step.runbook is not None), None)


def utc(unix_time: float) -> str:
    return f"{datetime.fromtimestamp(unix_time, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _steps(slot: SlotStatus) -> tuple[Step, ...]:
    return advice(slot) if slot.needs_attention else ()


def _summary(slots: Sequence[SlotStatus], nodes: Sequence[NodeRow]) -> str:
    """Return the state of everything in a sentence, which changes only when that does: screen readers read it aloud."""
    attention = sum(slot.needs_attention for slot in slots)
    unknown = sum(slot.severity is Severity.UNSEEN for slot in slots)
    unseen = sum(bool(node.problem) for node in nodes)
    total = "1 slot" if len(slots) == 1 else f"{len(slots)} slots"
    if attention:
        text = f"{attention} of {total} need{'s' if attention == 1 else ''} a person"
    elif slots:
        text = "The only slot needs nobody" if len(slots) == 1 else f"None of {total} needs a person"
    else:
        text = "No slot is known"
    if unknown:
        text += f"; {unknown} {'is' if unknown == 1 else 'are'} not explained yet"
    if unseen:
        text += f"; {unseen} node{'' if unseen == 1 else 's'} could not be seen in full"
    return f"{text}."


def _node_row(node: Node, look: ClusterLook) -> NodeRow:
    snapshot, age = look.snapshot.node(node.name), look.ages.get(node.name)
    if snapshot is None or age is None:
        return NodeRow(node.cluster, node.name, "", "", "not scraped yet")
    text, problem = _state(snapshot, snapshot.failures)
    return NodeRow(node.cluster, node.name, text, problem, f"{age:.0f} s ago")


def _state(snapshot: NodeSnapshot, failed: Mapping[str, QueryStatus]) -> tuple[str, str]:
    if snapshot.facts is None:
        return "", failed.get("node", QueryStatus.UNREACHABLE)
    role = "primary" if snapshot.is_primary else "standby"
    problems = ", ".join(f"{query}: {status}" for query, status in failed.items())
    return f"{role}, PostgreSQL {snapshot.facts.version}", problems

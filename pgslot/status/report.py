"""What one look at some clusters showed, and the exit code that follows: for `status` and `explain`."""

from dataclasses import dataclass, replace

from pgslot.snapshot.model import ClusterSnapshot
from pgslot.status.assessment import Held, Volumes, rank, slot_statuses
from pgslot.status.node_status import NodeStatus, node_statuses, rival_primaries
from pgslot.status.slot_status import Severity, SlotStatus

NOTHING_TO_DO = 0
NEEDS_SOMEBODY = 1
SOMETHING_UNSEEN = 3
"""2 is bad input."""


@dataclass(frozen=True, slots=True)
class Report:
    """One look."""

    nodes: tuple[NodeStatus, ...]
    slots: tuple[SlotStatus, ...]
    """Worst first."""
    problems: tuple[str, ...] = ()
    """What needs a person and is not about one slot, in sentences."""
    unseen: tuple[str, ...] = ()
    """What could not be seen and is not about one node or slot, in sentences."""

    @property
    def exit_code(self) -> int:
        """1 if something needs a person, else 3 if something could not be seen, else 0."""
        if self.problems or any(slot.needs_attention for slot in self.slots):
            return NEEDS_SOMEBODY
        seen = all(node.complete and not any(item.needed for item in node.hidden) for node in self.nodes)
        return (
            NOTHING_TO_DO
            if seen and not self.unseen and not any(slot.unseen for slot in self.slots)
            else SOMETHING_UNSEEN
        )

    @property
    def several_clusters(self) -> bool:
        return len({node.cluster for node in self.nodes} | {slot.cluster for slot in self.slots}) > 1

    def only(self, *, slot_name: str | None = None, node: str | None = None, problems: bool = False) -> "Report":
        """Return the report with only the slots that match; None matches all, `problems` those that are not fine."""
        return replace(
            self,
            slots=tuple(
                slot
                for slot in self.slots
                if slot_name in (None, slot.slot_name)
                and node in (None, slot.node)
                and (not problems or slot.severity > Severity.FINE)
            ),
        )


def cluster_report(cluster: ClusterSnapshot, *, held: Held | None = None, volumes: Volumes | None = None) -> Report:
    """Return the report of one cluster; `held` and `volumes` as in slot_statuses()."""
    rivals = rival_primaries(cluster)
    problems = (
        (f"{' and '.join(rivals)} of cluster {cluster.cluster} all say that they are the primary: stop all but one.",)
        if rivals
        else ()
    )
    return Report(node_statuses(cluster), slot_statuses(cluster, held=held, volumes=volumes), problems)


def joined(reports: list[Report]) -> Report:
    """Return one report of several clusters, the worst slots of all of them first."""
    return Report(
        nodes=tuple(node for report in reports for node in report.nodes),
        slots=tuple(sorted((slot for report in reports for slot in report.slots), key=rank)),
        problems=tuple(problem for report in reports for problem in report.problems),
        unseen=tuple(text for report in reports for text in report.unseen),
    )

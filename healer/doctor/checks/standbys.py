"""Whether the configuration has all standbys: slots on a standby that it lacks are neither watched nor healed."""

from collections.abc import Iterator

from healer.doctor.result import CheckStatus, Finding
from pgslot.diagnosis.unconfigured_standbys import unconfigured_standbys
from pgslot.snapshot.model import ClusterSnapshot
from pgslot.snapshot.rows import WalSender


def judge_unconfigured_standbys(cluster: ClusterSnapshot) -> Iterator[Finding]:
    """Name the standbys that stream from the primary and are not in the configuration; nothing if none streams."""
    unconfigured = unconfigured_standbys(cluster)
    if unconfigured is None or cluster.primary is None or not cluster.primary.senders:
        return
    names = ", ".join(_name(sender) for sender in unconfigured.senders)
    if unconfigured.count:
        some = f"{unconfigured.count} of these: " if unconfigured.count < len(unconfigured.senders) else ""
        advice = "Add them to the cluster's nodes: slots on an unlisted standby are neither watched nor healed."
        yield Finding("standbys", cluster.cluster, CheckStatus.WARNING, f"not among the nodes: {some}{names}", advice)
    elif unconfigured.count is None:
        found = f"unknown whether {names} is among the nodes: {unconfigured.unanswered} of them did not answer"
        yield Finding("standbys", cluster.cluster, CheckStatus.SKIPPED, found)
    else:
        found = f"all {len(cluster.primary.senders)} that stream from {cluster.primary.node} are among the nodes"
        yield Finding("standbys", cluster.cluster, CheckStatus.OK, found)


def _name(sender: WalSender) -> str:
    slot = f", slot {sender.slot_name}" if sender.slot_name else ""
    return f"{sender.application_name} ({sender.client_addr or 'local'}{slot})"

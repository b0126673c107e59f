"""Does the configuration name all standbys? Nobody watches the slots of one that it forgot, or heals them."""

from collections.abc import Iterator

from healer.doctor.result import CheckStatus, Finding
from pgslot.diagnosis.unconfigured_standbys import unconfigured_standbys
from pgslot.snapshot.model import ClusterSnapshot
from pgslot.snapshot.rows import WalSender


def judge_unconfigured_standbys(cluster: ClusterSnapshot) -> Iterator[Finding]:
    """Name the standbys that stream from the primary and are none of the nodes; nothing where none streams."""
    found = unconfigured_standbys(cluster)
    if found is None or cluster.primary is None or not cluster.primary.senders:
        return
    named = ", ".join(_shown(sender) for sender in found.senders)
    if found.count:
        of_them = f"{found.count} of these: " if found.count < len(found.senders) else ""
        remedy = "Add them to the cluster's nodes: on a standby that is not listed no slot is watched, and none healed."
        yield Finding(
            "standbys", cluster.cluster, CheckStatus.WARNING, f"not among the nodes: {of_them}{named}", remedy
        )
    elif found.count is None:
        told = f"unknown whether {named} is among the nodes: {found.unanswered} of them did not answer"
        yield Finding("standbys", cluster.cluster, CheckStatus.SKIPPED, told)
    else:
        told = f"all {len(cluster.primary.senders)} that stream from {cluster.primary.node} are among the nodes"
        yield Finding("standbys", cluster.cluster, CheckStatus.OK, told)


def _shown(sender: WalSender) -> str:
    slot = f", slot {sender.slot_name}" if sender.slot_name else ""
    return f"{sender.application_name} ({sender.client_addr or 'local'}{slot})"

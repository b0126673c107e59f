"""What a switchover to each standby would break, as `pg-slot-exporter rehearse` shows it in full."""

from collections.abc import Iterator

from healer.doctor.result import CheckStatus, Finding
from pgslot.diagnosis.failover_readiness import failover_slots
from pgslot.diagnosis.rehearsal import rehearse, switchover_targets
from pgslot.diagnosis.rehearsal_model import Phase, Rehearsal
from pgslot.diagnosis.switchover_facts import SwitchoverFacts
from pgslot.exposition.rehearsal_report import sentence, shortened, summary
from pgslot.snapshot.model import ClusterSnapshot, QueryStatus


def judge_switchover(cluster: ClusterSnapshot, facts: SwitchoverFacts) -> Iterator[Finding]:
    """Report on a switchover to each standby; nothing without a primary, which `primary` reports."""
    primary = cluster.primary
    if primary is None:
        return
    protected = {slot.slot_name for slot in failover_slots(primary)}
    for target in switchover_targets(cluster):
        if QueryStatus.WRONG_CLUSTER in target.statuses.values():
            # `same cluster` reports it.
            continue
        yield _judge(rehearse(cluster, target, facts), protected)


def _judge(rehearsal: Rehearsal, protected: set[str]) -> Finding:
    subject = f"{rehearsal.cluster}/{rehearsal.target}"
    problems = [sentence(problem) for problem in rehearsal.problems if problem.kind.phase is not Phase.TASK]
    # A slot without failover ends by its owner's choice; rehearse lists it.
    lost = [slot.slot_name for slot in rehearsal.slots if not slot.good and slot.slot_name in protected]
    command = f"pg-slot-exporter rehearse {rehearsal.cluster} --to {rehearsal.target}"
    found = f"after a switchover: {summary(rehearsal)}"
    if lost:
        found = f"{found}; failover slots that do not go on: {shortened(lost, ', ')}"
    if problems or lost:
        advice = " ".join([*problems, f"Everything: {command}"])
        return Finding("switchover", subject, CheckStatus.WARNING, found, advice)
    if not rehearsal.everything_known:
        missing = "; ".join(f"{unknown.what}: this takes {unknown.needs}" for unknown in rehearsal.unknown)
        return Finding("switchover", subject, CheckStatus.SKIPPED, f"{found}; unknown: {missing}")
    return Finding("switchover", subject, CheckStatus.OK, found)

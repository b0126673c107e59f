"""
The judge of the remedy end_transaction: it knows from the model which transaction holds which slot.

What it demands of every ended session: it held the slot; that was proven, not guessed; the owner's rules allowed it;
the healer was not switched off; and the act was reported. What it demands of every `healed`: an act of ours was the
cause.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from healer.remedies.progress import Outcome
from healer.remedies.slot_state import SlotKey
from tests.simulations.terminations.slots import ModelCreation, ModelSlot
from tests.simulations.terminations.transactions import Record, Transaction

if TYPE_CHECKING:
    from tests.simulations.terminations.cluster import BlockedCluster

HOUR = 3600.0
GRACE_SECONDS = 0.5
"""By which times may differ that the healer and the model round differently."""
UNSEEN_SECONDS = 5.0
"""A transaction that blocks a creation for less may go unseen between two snapshots."""
EXAMPLES = 30

NOT_THE_HOLDER = "ended a session that did not hold the slot"
UNPROVEN = "ended a session without proof"
NOT_ALLOWED = "ended a session that the rules do not allow"
OVER_BUDGET = "ended more sessions within an hour than the rules allow"
SWITCHED_OFF = "ended a session although switched off or silenced"
FALSE_HEALED = "claimed healed, which no act of ours was the cause of"
UNTOLD = "ended a session and reported no act"
OVERTOLD = "reported an act and ended no session"


@dataclass(frozen=True)
class Ending:
    """One session that the healer ended."""

    at: float
    victim: Transaction
    slot_name: str
    slot: ModelSlot | ModelCreation | None
    """None: there is no such slot."""
    holders: tuple[Transaction, ...]
    """All that held the slot at that time."""
    process: int
    """The number of the healer's process."""
    note: dict[str, object]
    """Its row in the healer's table."""
    cluster: "BlockedCluster"
    """The servers of its incident; the next incident in a cluster of this name has others."""


@dataclass
class TerminationJudge:
    """Counts what the healer did, and its mistakes; `record_mistake` adds an example to the year's report."""

    mistakes: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    endings: list[tuple[str, Ending]] = field(default_factory=list)
    """With the name of the cluster."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Acts by kind of incident."""
    outcomes: Counter[str] = field(default_factory=Counter)
    over_forgotten: Counter[str] = field(default_factory=Counter)
    """Acts beyond the limit per hour that nobody could know to be, by what had made the primary forget earlier ones."""
    holders_left: int = 0
    """Incidents in which an allowed transaction held a slot for minutes, and was not ended."""
    process: int = 0
    """The number of the healer's process that runs."""
    told: int = 0
    """Acts in the healers' metric."""
    in_doubt: int = 0
    """Acts in the same metric of which no answer came."""

    def session_ended(self, cluster: "BlockedCluster", victim: Transaction, slot_name: str) -> None:
        """Judge an act in the moment before it takes effect."""
        slot = cluster.slots.get(slot_name) or cluster.creations.get(slot_name)
        holders = tuple(slot.holders()) if slot is not None else ()
        now = cluster.clock()
        ending = Ending(now, victim, slot_name, slot, holders, self.process, cluster.model.audit_rows[-1], cluster)
        if victim not in holders:
            self._mistake(cluster, NOT_THE_HOLDER, self._describe(ending))
        elif isinstance(slot, ModelSlot) and (why := unproven(slot, victim)):
            self._mistake(cluster, UNPROVEN, f"{why}; {self._describe(ending)}")
        for why in not_allowed(cluster, victim, now):
            self._mistake(cluster, NOT_ALLOWED, why)
        if cluster.off_since is not None and now - cluster.off_since > GRACE_SECONDS:
            self._mistake(cluster, SWITCHED_OFF, f"{now - cluster.off_since:.1f} s after that")
        earlier = [
            before for name, before in self.endings if name == cluster.name and now - before.at < HOUR - GRACE_SECONDS
        ]
        remembered = [before for before in earlier if self._remembered(cluster, before)]
        if len(remembered) >= cluster.policy.at_most_per_hour:
            self._mistake(cluster, OVER_BUDGET, f"{len(remembered)} within the hour before")
        elif len(earlier) >= cluster.policy.at_most_per_hour:
            self.over_forgotten[_forgotten_by(cluster, [before for before in earlier if before not in remembered])] += 1
        self.endings.append((cluster.name, ending))
        self.kinds[cluster.kind] += 1

    def verdict(self, cluster: "BlockedCluster", subject: SlotKey, outcome: Outcome, why: str, *, since: float) -> None:
        """Judge an outcome of the remedy; `since`: when the slot's heal began."""
        self.outcomes[str(outcome)] += 1
        if outcome is Outcome.HEALED and (reason := self._false_claim(cluster, subject, since)):
            self._mistake(cluster, FALSE_HEALED, f"{reason} ({why})")

    def _remembered(self, cluster: "BlockedCluster", ending: Ending) -> bool:
        """
        Return whether the healer's process or the primary can know of it.

        Both forget: the process with a restart, the primary with a failover, or by its clock that was set forward.
        """
        return ending.process == self.process or any(
            note is ending.note
            and cluster.model.clock - datetime.fromisoformat(str(note["ended_at"])).timestamp() < HOUR
            for note in cluster.model.audit_rows
        )

    def compare_reports(self) -> None:
        """Compare the acts with those that the healers' metrics counted; called once, at the end."""
        untold = len(self.endings) - self.told - self.in_doubt
        if untold > 0:
            self.mistakes[UNTOLD] += untold
        if self.told > len(self.endings):
            self.mistakes[OVERTOLD] += self.told - len(self.endings)

    def _false_claim(self, cluster: "BlockedCluster", subject: SlotKey, since: float) -> str | None:
        """Return why `healed` is not true; None: it is."""
        endings = [
            ending
            for name, ending in self.endings
            if (name, ending.slot_name) == (cluster.name, subject.slot_name) and ending.at >= since - GRACE_SECONDS
        ]
        if not endings:
            return "nothing was ended for it"
        slot = cluster.slots.get(subject.slot_name) or cluster.creations.get(subject.slot_name)
        mine = [ending for ending in endings if ending.slot is slot and ending.victim in ending.holders]
        if slot is None or not mine:
            return "what was ended did not hold this slot"
        others = {
            other for ending in mine for other in ending.holders if other is not ending.victim and not other.by_healer
        }
        last = mine[-1]
        if isinstance(slot, ModelSlot):
            if others:
                return f"{len(others)} more held it, and ended by themselves"
            moved = [move for move in slot.moves if move.at >= last.at and move.before <= slot.restart]
            return None if moved else "it has not moved since"
        if slot.made is None:
            return "it is not made"
        longest = max(self._blocked_since(slot, last), default=0.0)
        return f"another one blocked it for {longest:.0f} s since" if longest > UNSEEN_SECONDS else None

    def _blocked_since(self, creation: ModelCreation, ending: Ending) -> list[float]:
        """Return for how long each other transaction, which ended by itself, has blocked the creation since an act."""
        return [
            min(other.ended or math.inf, creation.made or math.inf) - max(since, ending.at)
            for other, since in creation.waited_for
            if other is not ending.victim and not other.by_healer and (other.ended or math.inf) > ending.at
        ]

    def _mistake(self, cluster: "BlockedCluster", what: str, detail: str) -> None:
        self.mistakes[what] += 1
        cluster.record_mistake(what)
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{cluster.clock():.1f} s, {cluster.name}, {cluster.kind}: {what}: {detail}")

    @staticmethod
    def _describe(ending: Ending) -> str:
        who = ", ".join(f"{holder.owner.usename} xid={holder.xid}" for holder in ending.holders) or "nobody"
        victim = ending.victim
        return f"ended {victim.owner.usename} xid={victim.xid}, slot {ending.slot_name} was held by {who}"


def _forgotten_by(cluster: "BlockedCluster", endings: Sequence[Ending]) -> str:
    """Return why the primary shows none of these acts within the hour; the healer was restarted since."""
    if any(ending.cluster is not cluster for ending in endings):
        return "a restart of the healer, and new servers under the cluster's name"
    if any(all(note is not ending.note for note in cluster.model.audit_rows) for ending in endings):
        return "a restart of the healer and a failover"
    return "a restart of the healer, and the primary's clock set forward by an hour"


def unproven(slot: ModelSlot, victim: Transaction) -> str | None:
    """
    Return what a proof that this transaction holds the slot lacks, given what the healer was shown; None: nothing.

    A proof is: a record that was logged after the healer was first shown the transaction has been confirmed, and
    restart_lsn stands; and at that record, as now, it was the only open transaction that could be the cause, which is
    one that had its xid at the record that follows restart_lsn.
    """
    following = slot.next_record()
    if following is None:
        return "no record has followed restart_lsn"
    shown = victim.shown_since
    confirmed = [
        record
        for record in slot.primary.records
        if shown is not None and record.at > shown and slot.restart < record.lsn and record.end <= slot.confirmed
    ]
    if not confirmed:
        return "no record that was logged since it was first shown has been confirmed"
    alone = [record for record in confirmed if _suspects(record.open_transactions, following) == [victim]]
    if not alone:
        return "at none of the confirmed records it was the only one that could be the cause"
    if _suspects(slot.primary.open_with_xid, following) != [victim]:
        return "others that could be the cause are open"
    return None


def _suspects(transactions: Sequence[Transaction], following: Record) -> list[Transaction]:
    """Return those that had an xid at the record that follows restart_lsn."""
    return [entry for entry in transactions if entry.xid in following.running]


def not_allowed(cluster: "BlockedCluster", victim: Transaction, now: float) -> list[str]:
    """Return which of the owner's rules the end of this session breaks."""
    policy, owner = cluster.policy, victim.owner
    broken = []
    if policy.users is not None and owner.usename not in policy.users:
        broken.append(f"user {owner.usename}")
    if policy.applications is not None and owner.application_name not in policy.applications:
        broken.append(f"application {owner.application_name}")
    if policy.databases is not None and owner.datname not in policy.databases:
        broken.append(f"database {owner.datname}")
    if owner.superuser:
        broken.append("a superuser's")
    if owner.backend_type != "client backend":
        broken.append(f"a {owner.backend_type}")
    if victim.idle_since is None:
        broken.append("a statement runs")
    elif now - victim.idle_since < policy.idle_in_transaction_for - GRACE_SECONDS:
        broken.append(f"idle for {now - victim.idle_since:.1f} s only")
    return broken

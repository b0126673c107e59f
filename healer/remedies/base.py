"""
What a remedy is: the abstract base class that the episode loop works with.

A third remedy is one folder with a subclass of Remedy (remedy.py), and one line in registry.py. Its rules are pure:
they say what snapshots and attempts make of one slot's heal, and what comes next.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

from healer.remedies.attempt import AttemptResult, Capability, LogEntry, Wait
from healer.remedies.connection import ActT, AttemptT, PrimaryConnection, check_capability
from healer.remedies.progress import SlotProgress
from healer.remedies.slot_state import SlotState
from pgslot.config.model import Cluster, HealerConfig, HealerSettings

ProgressT = TypeVar("ProgressT", bound=SlotProgress)


@dataclass(frozen=True, slots=True)
class EpisodeProgress:
    """The episode so far, which has one caller for all its slots. Times in seconds since its start."""

    now: float
    """When the last snapshot was taken, or the last attempt made."""
    last_attempt: float | None = None
    by_fallback: bool = False
    """The last attempt took the remedy's slower fallback: hurry is useless."""
    budget_spent: bool = False
    """The cluster's budget of calls within an hour has none left."""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class BudgetLimit:
    """Calls for each cluster within an hour, and how many of them are available right after a start."""

    per_hour: int
    at_start: int


class Remedy(ABC, Generic[ProgressT, ActT, AttemptT]):
    """One thing that can be done to a cluster, with its own progress, step and attempt."""

    name: ClassVar[str]
    """The value of the alerts' label `heal`, and of the metrics' label `remedy`."""
    connection: ClassVar[type[PrimaryConnection[Any, Any]]]
    """How it acts on the primary."""
    spending: ClassVar[frozenset[AttemptResult]]
    """Results that count against the cluster's hour."""
    guards: ClassVar[tuple[str, ...]] = ()
    """What can refuse an attempt; empty for a remedy that does no harm."""
    plan: ClassVar[str]
    """What it does, for people who ask in advance."""
    not_now: ClassVar[str]
    """Why it does nothing for a slot that it cannot help at this moment."""
    cannot_help: ClassVar[str]
    """What does not help a slot that it can never help."""

    @abstractmethod
    def target(self, cluster: Cluster) -> HealerConfig | None:
        """Return how it connects to the cluster; None: it is not set up there."""

    @abstractmethod
    def budget_limit(self, target: HealerConfig, settings: HealerSettings) -> BudgetLimit:
        """Return how many calls the cluster may have within an hour."""

    async def check(self, target: HealerConfig) -> Capability:
        """Return whether it could act if it had to; nothing is written and no lock is taken."""
        return await check_capability(target, self.connection)

    def connect(self, target: HealerConfig, idle_timeout: float) -> PrimaryConnection[ActT, AttemptT]:
        """Return the connection of an episode; the server ends it after `idle_timeout` seconds without a statement."""
        return self.connection(target, idle_timeout=idle_timeout)

    def fallback_plan(self, target: HealerConfig, capability: Capability) -> str | None:
        """Return what it does instead of its plan where it lacks this capability; None: nothing."""
        del target, capability
        return None

    @abstractmethod
    def begin(self, since: float = 0.0) -> ProgressT:
        """Return the progress of a slot that has not been observed yet; `since`: when its alert came."""

    @abstractmethod
    def apply_observation(self, progress: ProgressT, state: SlotState, now: float) -> ProgressT:
        """Return the progress after another snapshot, with an outcome if the snapshot decides it."""

    @abstractmethod
    def apply_attempt(self, progress: ProgressT, attempt: AttemptT, now: float) -> ProgressT:
        """Return the progress after an attempt, which may have been made for another slot."""

    @abstractmethod
    def apply_timeouts(self, progress: ProgressT, episode: EpisodeProgress, settings: HealerSettings) -> ProgressT:
        """Return the progress with an outcome, if it is time for one that no snapshot gives."""

    @abstractmethod
    def should_reopen(self, progress: ProgressT, state: SlotState) -> bool:
        """Return whether a slot that was well needs another heal, while its alert still fires."""

    @abstractmethod
    def wants_attempt(self, progress: ProgressT) -> bool:
        """Return whether an attempt would be of use for this slot, now or as soon as the interval allows."""

    @abstractmethod
    def next_step(
        self, open_slots: Collection[ProgressT], episode: EpisodeProgress, settings: HealerSettings
    ) -> ActT | Wait:
        """Return what to do next for the slots that are still open."""

    @abstractmethod
    def describe(self, attempt: AttemptT) -> LogEntry:
        """Return the attempt in words."""


AnyRemedy: TypeAlias = Remedy[Any, Any, Any]

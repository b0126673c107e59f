"""
Remedy, the abstract base class that the episode loop works with.

A third remedy is one folder with a subclass of Remedy (remedy.py), and one line in registry.py. Its rules are pure
functions: they compute a slot's progress from snapshots and attempts, and choose the next step.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

from healer.remedies.attempt import AttemptResult, Capability, LogEntry, Wait
from healer.remedies.connection import ActT, AnyConnection, AttemptT, PrimaryConnection, check_capability
from healer.remedies.progress import SlotProgress
from healer.remedies.server_clock import ClockStep
from healer.remedies.slot_state import SlotState
from pgslot.config.model import Cluster, HealerConfig, HealerSettings

ProgressT = TypeVar("ProgressT", bound=SlotProgress)


@dataclass(frozen=True, slots=True)
class EpisodeProgress:
    """The episode so far; its slots share one connection that acts. Times in seconds since the episode's start."""

    now: float
    """When the last snapshot was taken, or the last attempt made."""
    last_attempt: float | None = None
    by_fallback: bool = False
    """The last attempt used the remedy's slower fallback, after which short intervals are useless."""
    budget_spent: bool = False
    """The cluster has no calls left within this hour."""
    dry_run: bool = False
    clock_steps: tuple[ClockStep, ...] = ()
    """When the primary's clock was set forward, as far as this process has noticed; monotonic times."""


@dataclass(frozen=True, slots=True)
class BudgetLimit:
    """Calls per cluster and hour, and how many of them are available right after the healer starts."""

    per_hour: int
    at_start: int


class Remedy(ABC, Generic[ProgressT, ActT, AttemptT]):
    """One way to heal a slot, with its own types of progress, step and attempt."""

    name: ClassVar[str]
    """The value of the alerts' label `heal`, and of the metrics' label `remedy`."""
    connection: ClassVar[type[AnyConnection]]
    """The connection through which it acts on the primary."""
    spending: ClassVar[frozenset[AttemptResult]]
    """Results that count against the budget per cluster and hour."""
    watches_healed: ClassVar[bool] = False
    """A slot that was healed is watched while its alert fires on, and healed again if its consumer creates it again."""
    guards: ClassVar[tuple[str, ...]] = ()
    """What can refuse an attempt; empty for a harmless remedy."""
    plan: ClassVar[str]
    """What it would do: for `replay`, `heal` and the status page."""
    not_now: ClassVar[str]
    """Why it does nothing for a slot at this moment."""
    cannot_help: ClassVar[str]
    """Why it can never help a slot."""

    @abstractmethod
    def target(self, cluster: Cluster) -> HealerConfig | None:
        """Return how it connects to the cluster; None: the cluster's configuration does not have it."""

    @abstractmethod
    def budget_limit(self, target: HealerConfig, settings: HealerSettings) -> BudgetLimit:
        """Return how many calls the cluster may get within an hour."""

    def policy(self, target: HealerConfig) -> str:
        """Return what the configuration lets it do, in words; empty: there is nothing to choose."""
        del target
        return ""

    async def check(self, target: HealerConfig) -> Capability:
        """Return whether it could act now; writes nothing and takes no lock."""
        return await check_capability(target, self.connection)

    def connect(self, target: HealerConfig, idle_timeout: float) -> PrimaryConnection[ActT, AttemptT]:
        """Return the connection of an episode; the server ends it after `idle_timeout` seconds without a statement."""
        return self.connection(target, idle_timeout=idle_timeout)

    def fallback_plan(self, target: HealerConfig, capability: Capability) -> str | None:
        """Return what it does instead of `plan` where it lacks this capability; None: nothing."""
        del target, capability
        return None

    @abstractmethod
    def begin(self, since: float = 0.0) -> ProgressT:
        """Return the progress of a slot that has not been observed yet; `since`: when its alert arrived."""

    @abstractmethod
    def apply_observation(self, progress: ProgressT, state: SlotState, now: float) -> ProgressT:
        """Return the progress after another snapshot, with an outcome if the snapshot shows one."""

    @abstractmethod
    def apply_attempt(self, progress: ProgressT, attempt: AttemptT, now: float) -> ProgressT:
        """Return the progress after an attempt, which may have been made for another slot."""

    @abstractmethod
    def apply_timeouts(self, progress: ProgressT, episode: EpisodeProgress, settings: HealerSettings) -> ProgressT:
        """Return the progress with an outcome if it is withdrawn, impossible, refused, or out of time or calls."""

    @abstractmethod
    def should_reopen(self, progress: ProgressT, state: SlotState) -> bool:
        """Return whether a slot that was well needs another heal while its alert still fires."""

    @abstractmethod
    def wants_attempt(self, progress: ProgressT) -> bool:
        """Return whether an attempt would help this slot, now or as soon as the interval allows."""

    @abstractmethod
    def next_step(
        self, open_slots: Collection[ProgressT], episode: EpisodeProgress, settings: HealerSettings
    ) -> ActT | Wait:
        """Return the next step for the slots that are still open."""

    @abstractmethod
    def describe(self, attempt: AttemptT) -> LogEntry:
        """Describe the attempt for the timeline and the log."""


AnyRemedy: TypeAlias = Remedy[Any, Any, Any]

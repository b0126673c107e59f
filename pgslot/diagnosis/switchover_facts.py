"""What a rehearsal needs beyond the snapshot of the cluster: settings of nodes, and what Patroni does with slots."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pgslot.snapshot.rows import Slot
from pgslot.snapshot.switchover import SettingsOrStatus, SwitchoverSettings

LEAVES_FAILOVER_SLOTS = (4, 1)
"""From this version on Patroni leaves slots with `failover` alone."""


@dataclass(frozen=True, slots=True)
class SlotMatcher:
    """An entry of Patroni's `ignore_slots`, or the attributes of a permanent slot. None matches every slot."""

    name: str | None
    type: str | None
    database: str | None = None
    plugin: str | None = None

    def matches(self, slot: Slot) -> bool:
        """Return whether the slot has every attribute that is given, as Patroni compares them."""
        return (
            self.name in (None, slot.slot_name)
            and self.type in (None, slot.slot_type)
            and self.database in (None, slot.database)
            and self.plugin in (None, slot.plugin)
        )


@dataclass(frozen=True, slots=True)
class PatroniSlots:
    """Which slots Patroni creates, keeps and drops, by its dynamic configuration."""

    version: tuple[int, ...] | None
    """Patroni's own version. None: it did not report one."""
    use_slots: bool
    """`postgresql.use_slots`: Patroni creates a physical slot for each member."""
    permanent: tuple[SlotMatcher, ...]
    """`slots`: their names are not None."""
    ignored: tuple[SlotMatcher, ...]
    """`ignore_slots`."""

    def permanent_slot(self, name: str) -> SlotMatcher | None:
        """Return the permanent slot of this name; None: there is none."""
        return next((slot for slot in self.permanent if slot.name == name), None)

    def ignores(self, slot: Slot) -> bool:
        """Return whether `ignore_slots` lists the slot."""
        return any(matcher.matches(slot) for matcher in self.ignored)

    def drops(self, slot: Slot) -> bool | None:
        """Return whether Patroni drops a logical slot that it finds on a leader; None: its version is not known."""
        if self.permanent_slot(slot.slot_name) is not None or self.ignores(slot) or slot.temporary:
            return False
        if not slot.failover:
            return True
        return None if self.version is None else self.version < LEAVES_FAILOVER_SLOTS


@dataclass(frozen=True, slots=True)
class SwitchoverFacts:
    """The facts of one cluster."""

    settings: Mapping[str, SettingsOrStatus] = field(default_factory=dict)
    """By node. A node that is missing was not asked."""
    patroni: PatroniSlots | None = None
    """None: the nodes do not come from Patroni, or Patroni did not answer."""
    patroni_error: str = ""
    """Why Patroni's configuration is unknown. Empty: it is known, or the nodes do not come from Patroni."""

    @property
    def by_patroni(self) -> bool:
        """Whether Patroni runs the cluster."""
        return self.patroni is not None or bool(self.patroni_error)

    def of(self, node: str) -> SwitchoverSettings | None:
        """Return the node's settings; None: unknown."""
        settings = self.settings.get(node)
        return settings if isinstance(settings, SwitchoverSettings) else None

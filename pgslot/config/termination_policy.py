"""Whose transactions the healer may end: `end_transactions` of a cluster's `healer`, but for its conninfo."""

from dataclasses import dataclass

from pgslot.config.yaml_values import Value

IDLE_FOR = 300.0
_NAMES = "a list of names, each in full, at least one"

KEYS = ("dry_run", "idle_in_transaction_for", "users", "applications", "databases", "at_most_per_hour")


@dataclass(frozen=True, slots=True)
class EndPolicy:
    """What its owner allows. Names are whole names, not patterns; those of each list that is not None have to match."""

    users: tuple[str, ...] | None
    applications: tuple[str, ...] | None
    """At least one of users and applications is not None."""
    databases: tuple[str, ...] | None
    idle_in_transaction_for: float
    """Seconds since pg_stat_activity.state_change."""
    at_most_per_hour: int
    """On this cluster, counted by its primary: whoever's healer it was."""
    dry_run: bool

    @property
    def rule(self) -> str:
        """What allowed it, in words."""
        lists = {"users": self.users, "applications": self.applications, "databases": self.databases}
        given = [f"{name}: [{', '.join(names)}]" for name, names in lists.items() if names is not None]
        return f"{', '.join(given)}, idle_in_transaction_for: {self.idle_in_transaction_for:g}s"


def read_policy(section: Value, keys: dict[str, Value]) -> EndPolicy:
    """Return what the section allows. Raises ConfigError, which names the place."""
    if "users" not in keys and "applications" not in keys:
        raise section.error("at least one of the keys users and applications", "neither: that would be everybody")
    return EndPolicy(
        users=_names(keys, "users"),
        applications=_names(keys, "applications"),
        databases=_names(keys, "databases"),
        idle_in_transaction_for=(
            keys["idle_in_transaction_for"].duration() if "idle_in_transaction_for" in keys else IDLE_FOR
        ),
        at_most_per_hour=keys["at_most_per_hour"].positive_integer() if "at_most_per_hour" in keys else 1,
        dry_run=keys["dry_run"].boolean() if "dry_run" in keys else True,
    )


def _names(keys: dict[str, Value], key: str) -> tuple[str, ...] | None:
    if key not in keys:
        return None
    value = keys[key]
    if not isinstance(value.data, list) or not value.data:
        raise value.error(_NAMES)
    names = tuple(item.string("a name, in quotes if it reads as something else") for item in value.data)
    for item, name in zip(value.data, names, strict=True):
        if not name:
            # Who sets no application_name has an empty one: that would be a good part of everybody.
            raise item.error("a name")
    return names

"""
What the panels of both dashboards are made from: label selectors, PromQL, and what a value is called and coloured.

Every query aggregates `job` and `instance` away, gauges with max: two exporters that look at the same server, or two
healers of a cluster, then show it once.
"""

from dataclasses import dataclass

CREATION_STUCK = 30
"""Seconds; PgSlotCreationStuck fires from here on, in alerts/pgslot.rules.yml."""
CREATION_BLOCKED = 60
"""Seconds; PgSlotCreationBlocked fires from here on."""
LITTLE_HEADROOM = 0.25
"""Part of max_slot_wal_keep_size; below it a slot is in danger."""
SOON = 4 * 3600
"""Seconds until a slot is lost; below it somebody has to act now."""
IN_SIGHT = 24 * 3600
FAR = 7 * 24 * 3600
"""Seconds; a loss further away than this is not a forecast any more."""
OLD_TRANSACTION = 900
"""Seconds after which an open transaction that can block slots is worth a look."""

SLOT_KEY = "cluster, node, slot_name"
NODE_KEY = "cluster, node"

YES_NO = {"1": ("yes", "green"), "0": ("no", "red")}
NO_YES_OF_FAULT = {"0": ("yes", "green"), "1": ("no", "red")}
"""Of a value that is 1 when something is wrong, and asked the other way round."""
NO_YES = {"0": ("no", "green"), "1": ("yes", "red")}

WAL_STATUS = {
    "reserved": ("reserved", "green"),
    "extended": ("extended", "yellow"),
    "unreserved": ("unreserved", "red"),
    "lost": ("lost", "red"),
}
WHY_NOT = (
    *("server_too_old", "missing_function", "missing_privilege", "wal_level"),
    *("no_primary", "unreachable", "login_failed", "pooler"),
)
"""Why the healer cannot act on a cluster, but for `disabled`, which is somebody's decision."""
HEALER = {
    "ready": ("ready", "green"),
    "disabled": ("disabled", "purple"),
    **{reason: (reason, "red") for reason in WHY_NOT},
}
REASONS = {
    "running_xacts": "orange",
    "transaction": "red",
    "replay_paused": "purple",
    "wal_receiver_down": "dark-red",
    "replay_lag": "yellow",
    "recovery_conflict": "dark-purple",
    "replay_delayed": "super-light-purple",
    "archived_segment": "super-light-blue",
    "unknown": "text",
}
CAUSES = {
    "consumer": "blue",
    "decoding": "semi-dark-blue",
    "table_copy": "super-light-blue",
    "idle_publication": "light-blue",
    "standby": "dark-blue",
    "inactive": "yellow",
    "transaction": "red",
    "stalled": "orange",
    "creation": "purple",
    "invalidated": "semi-dark-red",
    "unknown": "text",
}
UNREADY = {
    "not_synced": "yellow",
    "not_persisted": "orange",
    "name_clash": "dark-red",
    "invalidated": "semi-dark-red",
    "sync_off": "purple",
    "worker_down": "red",
    "stale": "dark-orange",
    "unknown": "text",
}
LEFTOVER = {
    "name_clash": "dark-red",
    "former_primary": "orange",
    "orphaned_copy": "yellow",
}
OUTCOMES = {
    "healed": "green",
    "resolved_itself": "blue",
    "no_effect": "orange",
    "gave_up": "red",
    "unavailable": "dark-red",
    "cancelled": "text",
    "dry_run": "purple",
    "refused": "yellow",
    "error": "dark-orange",
}
CALLS = {
    "ok": "green",
    "emitted": "blue",
    "locked": "text",
    "seen": "super-light-blue",
    "ended": "orange",
    "dry_run": "purple",
    "refused": "yellow",
    "unavailable": "dark-red",
    "error": "dark-orange",
}
GUARDS = {
    "user_not_allowed": "dark-red",
    "application_not_allowed": "red",
    "database_not_allowed": "light-red",
    "superuser": "purple",
    "prepared": "dark-purple",
    "consumer": "blue",
    "not_a_client": "light-blue",
    "own": "super-light-blue",
    "hour_spent": "orange",
    "active": "green",
    "too_young": "light-green",
    "changed": "yellow",
    "other_transaction": "light-yellow",
    "not_in_the_way": "super-light-green",
    "gone": "text",
    "hidden": "dark-orange",
}
"""What keeps the healer from ending a transaction."""


def as_names(colors: dict[str, str]) -> dict[str, tuple[str, str]]:
    return {name: (name, color) for name, color in colors.items()}


@dataclass(frozen=True)
class Scope:
    """What the variables of a dashboard choose, as label matchers."""

    cluster: str
    node: str
    slot: str
    alert: str
    """Where all clusters are shown, alerts as well that are about none; never the heartbeat, which always fires."""


FLEET = Scope(
    cluster='cluster=~"$cluster"',
    node='cluster=~"$cluster"',
    slot='cluster=~"$cluster"',
    alert='alertname=~"PgSlot.*",severity!="info",cluster=~"$cluster|"',
)
# One cluster is chosen, so "=": Grafana does not escape the value for a regular expression there.
CLUSTER = Scope(
    cluster='cluster="$cluster"',
    node='cluster="$cluster",node=~"$node"',
    slot='cluster="$cluster",node=~"$node",slot_name=~"$slot"',
    alert='alertname=~"PgSlot.*",severity!="info",cluster="$cluster"',
)


def of_slot(metric: str, scope: Scope, *more: str, by: str = "") -> str:
    """One series a slot; `by` names labels to keep beside the slot's."""
    return f"max by ({', '.join(filter(None, (SLOT_KEY, by)))}) ({metric}{{{','.join((scope.slot, *more))}}})"


def of_node(metric: str, scope: Scope, *more: str, by: str = "") -> str:
    return f"max by ({', '.join(filter(None, (NODE_KEY, by)))}) ({metric}{{{','.join((scope.node, *more))}}})"


def of_cluster(metric: str, scope: Scope, *more: str, by: str = "") -> str:
    return f"max by ({', '.join(filter(None, ('cluster', by)))}) ({metric}{{{','.join((scope.cluster, *more))}}})"


def headroom(scope: Scope) -> str:
    """
    Return the part of what a slot may hold back that is left; 1 at most, though PostgreSQL counts whole segments.

    Recorded by the rules: the dashboards show what the alerts go by, of two exporters the smaller value.
    """
    return f"clamp_max({of_slot('slot:pgslot_wal_headroom:ratio', scope)}, 1)"


def safe_wal_size(scope: Scope) -> str:
    """Return the WAL that may still be written before a slot is lost; of two exporters the smaller value."""
    return of_slot("slot:pgslot_safe_wal_size_bytes:min", scope)


def time_left(scope: Scope) -> str:
    """Return the seconds until a slot is lost, as PgSlotLossPredicted has them; no series while nothing shrinks."""
    soon, hours = (of_slot(f"slot:pgslot_wal_until_lost:{range_}", scope) for range_ in ("seconds", "seconds6h"))
    return f"({soon} or {hours})"


def seen(scope: Scope) -> str:
    """0 wherever the exporter is scraped, no series elsewhere: an unknown must not look like a 0."""
    return f"0 * sum(pgslot_up{{{scope.node}}})"


def firing(scope: Scope) -> str:
    """Return the matchers of alerts that fire."""
    return f'{scope.alert},alertstate="firing"'

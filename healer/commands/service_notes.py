"""What an administrator of a managed service has to know beside the SQL of `grants --service`, by its documents."""

_EXECUTE = (
    "Whether EXECUTE on pg_log_standby_snapshot() can be granted is not known: try, and this script shows the result."
)
_REPLICA = "Whether a replica can have logical slots is not known: try; doctor shows what the exporter sees of it."

NOTES = {
    "aurora": (
        "wal_level cannot be set here: set rds.logical_replication = 1 in the cluster's parameter group, and reboot.",
        _EXECUTE,
        "Readers share the writer's storage. Whether one can have logical slots is not known.",
    ),
    "rds": (
        "wal_level cannot be set here: set rds.logical_replication = 1 in the parameter group, and reboot.",
        "Logical slots on a read replica need 16.1, and that setting in both parameter groups.",
        "ALTER SYSTEM is a parameter group here, as for sync_replication_slots and synchronized_standby_slots (17).",
        _EXECUTE,
    ),
    "cloudsql": (
        "wal_level cannot be set here: set the flag cloudsql.logical_decoding.",
        "cloudsqlsuperuser has pg_monitor without ADMIN OPTION (seen on 14.7)."
        " Whether its members can grant it from 16 on is not known.",
        _EXECUTE,
        _REPLICA,
    ),
    "alloydb": (
        "Which roles its administrators can grant is not known: try, and this script shows the result.",
        _EXECUTE,
        "Logical slots on a standby exist in AlloyDB Omni only.",
    ),
    "azure": (
        "Failover slots: the extension pg_failover_slots up to 16; from 17 on the parameters sync_replication_slots"
        " and hot_standby_feedback.",
        "At 95 % of the disk, or with less than 5 GiB, the service makes the server read-only.",
        _EXECUTE,
        _REPLICA,
    ),
    "supabase": (
        "postgres has pg_monitor with ADMIN OPTION, from supabase_admin.",
        "No dump shows EXECUTE on pg_log_standby_snapshot(): it probably cannot be granted.",
    ),
    "neon": (
        "neon_superuser has EXECUTE on pg_log_standby_snapshot() from 16 on."
        " Whether its members can grant it is not known: try.",
        "The service drops a slot that was inactive for 75 minutes, by its documentation, if others are active.",
        _REPLICA,
    ),
}
"""Sentences, by the service's name."""


def comment(name: str) -> str:
    """Return a service's notes as SQL comments."""
    return "\n".join(f"-- * {note}" for note in NOTES[name])

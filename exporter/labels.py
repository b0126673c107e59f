"""The labels that several metrics share."""

NODE = ("cluster", "node")
SLOT = (*NODE, "slot_name", "database")
CREATOR = ("pid", "usename", "application_name")
SESSION = ("pid", "datname", "usename", "application_name", "state")
TRANSACTION = ("kind", *SESSION)
"""The kind is one of `exporter.series.TRANSACTION_KINDS`."""
BLOCKER = ("backend_type", *SESSION)
"""The type is pg_stat_activity's, or `prepared`."""

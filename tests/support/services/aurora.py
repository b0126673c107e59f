"""Amazon Aurora PostgreSQL: readers share the writer's storage, and much about WAL is refused with 0A000."""

from tests.support.services.imitation import RefusedFunction, Service
from tests.support.services.rds import RDS_ROLES

_DATADOG = "DataDog/integrations-core#6399 and #14498"
_PGMETRICS = "rapidloop/pgmetrics#68"


def _not_supported(name: str, source: str, *, arguments: str = "", returns: str = "pg_lsn") -> RefusedFunction:
    message = f"Function {name}() is currently not supported for Aurora"
    return RefusedFunction(name, source, message, arguments, returns)


_RECEIVER = (
    "OUT pid int4, OUT status text, OUT receive_start_lsn pg_lsn, OUT receive_start_tli int4, OUT written_lsn pg_lsn,"
    " OUT flushed_lsn pg_lsn, OUT received_tli int4, OUT last_msg_send_time timestamptz,"
    " OUT last_msg_receipt_time timestamptz, OUT latest_end_lsn pg_lsn, OUT latest_end_time timestamptz,"
    " OUT slot_name text, OUT sender_host text, OUT sender_port int4, OUT conninfo text"
)

_OWN = (("aurora_replica_status", "AWS documentation of Aurora PostgreSQL, functions reference"),)

READER = Service(
    "aurora",
    functions=(
        _not_supported("pg_last_wal_receive_lsn", _DATADOG),
        _not_supported("pg_last_wal_replay_lsn", _DATADOG),
        _not_supported("pg_last_xact_replay_timestamp", _DATADOG, returns="timestamptz"),
        _not_supported("pg_stat_get_wal_receiver", _PGMETRICS, arguments=_RECEIVER, returns="record"),
    ),
    roles=RDS_ROLES,
    own_functions=_OWN,
)
"""A reader, and a writer with wal_level = logical (rds.logical_replication = 1), where pg_current_wal_lsn() works."""

WRITER = Service(
    "aurora",
    functions=(
        *READER.functions,
        # With rds.logical_replication = 0 it says that wal_level must be logical: mackerel-agent-plugins#804.
        _not_supported("pg_current_wal_lsn", _DATADOG),
        _not_supported(
            "pg_ls_waldir",
            _PGMETRICS,
            arguments="OUT name text, OUT size int8, OUT modification timestamptz",
            returns="SETOF record",
        ),
    ),
    roles=RDS_ROLES,
    own_functions=_OWN,
)
"""A writer that refuses all that any source names."""

"""The metrics of a node's WAL directory, its archiver and its volume."""

from exporter.labels import NODE
from pgslot.exposition.metric import Metric, gauges

WAL_METRICS = (
    *gauges(
        NODE,
        (
            "pgslot_wal_directory_bytes",
            "Size of all files in the WAL directory, without its subdirectories. The exporter lists the directory once "
            "a minute. Absent if the role may not list it.",
            "pg_ls_waldir()",
        ),
        (
            "pgslot_archiver_failing",
            "1 if the last attempt to archive a WAL file failed, or if archive_mode is on and neither archive_command "
            "nor archive_library is set; otherwise 0. Absent if the server archives nothing.",
            "pg_stat_archiver",
        ),
        (
            "pgslot_archiver_last_archived_timestamp_seconds",
            "Unix time at which the last WAL file was archived. Absent if none has been archived since the "
            "statistics were reset.",
            "pg_stat_archiver.last_archived_time",
        ),
        (
            "pgslot_archive_ready_files",
            "WAL files that wait to be archived. Absent if the server archives nothing, or if the role may not "
            "count them.",
            "pg_ls_archive_statusdir()",
        ),
        (
            "pgslot_last_checkpoint_timestamp_seconds",
            "Unix time at which the last completed checkpoint began. On a standby, that is the primary's checkpoint at "
            "which the last restartpoint was made.",
            "pg_control_checkpoint()",
        ),
        (
            "pgslot_wal_volume_size_bytes",
            "The room that WAL may take on the node: wal_volume in the configuration. Absent without that key.",
            "pgslot.yml",
        ),
    ),
    Metric(
        "pgslot_archiver_failed_total",
        "counter",
        NODE,
        "Failed attempts to archive a WAL file. Absent if the server archives nothing.",
        "pg_stat_archiver.failed_count",
    ),
    Metric(
        "pgslot_wal_held_bytes",
        "gauge",
        (*NODE, "holder", "slot_name"),
        "WAL in the WAL directory, by the holder that keeps it: slot, archiver, wal_keep_size, checkpoint (all "
        "WAL since the last one began), rest (files kept for reuse, and WAL that the next checkpoint removes). "
        "The values add up to pgslot_wal_directory_bytes. Each value is the WAL from this holder's position to that of "
        "the next newer holder. A checkpoint can remove it only when this holder and all holders with older positions "
        "have moved on. The ten slots with the oldest positions have a slot_name; all other slots share one series "
        "without it. Slots that keep nothing have no series. If a holder's position is unknown, its WAL counts under "
        "the next older holder or, if there is none, under rest.",
        "pg_ls_waldir(), pg_replication_slots, pg_control_checkpoint(), pg_ls_archive_statusdir(), pg_stat_archiver",
    ),
    Metric(
        "pgslot_wal_volume_filesystem_info",
        "gauge",
        (*NODE, "volume_instance", "volume_mountpoint"),
        "The labels instance and mountpoint under which node_exporter shows the volume of the node's WAL directory, "
        "from wal_volume_labels in the configuration. Always 1.",
        "pgslot.yml",
    ),
    Metric(
        "pgslot_wal_volume_claim_info",
        "gauge",
        (*NODE, "volume_namespace", "volume_claim"),
        "The labels namespace and persistentvolumeclaim under which the kubelet shows the volume of the node's WAL "
        "directory, from wal_volume_labels in the configuration. Always 1.",
        "pgslot.yml",
    ),
)

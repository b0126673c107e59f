"""The rows of the queries about the WAL directory: one type per query, with the columns of its .sql file in order."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WalFacts:
    """wal_facts.sql: how the server archives WAL (pg_stat_archiver), and what the role may ask about WAL."""

    archiving: bool
    """The server has an archiver: on a standby only with archive_mode = always."""
    archive_configured: bool
    """archive_command or archive_library is set. Without either an archiver archives nothing, and never fails."""
    last_archived_wal: str | None
    """Name of the file. None: none since the statistics were reset, like the time."""
    last_archived_time: float | None
    """Unix time."""
    failed_count: int
    last_failed_wal: str | None
    """Name of the file. None: none since the statistics were reset, like the time."""
    last_failed_time: float | None
    lists_wal: bool | None
    """The role may call pg_ls_waldir(). None: the server does not have the function; like the two below."""
    lists_archive_status: bool | None
    """The role may call pg_ls_archive_statusdir()."""
    reads_checkpoint: bool | None
    """The role may call pg_control_checkpoint()."""


@dataclass(frozen=True, slots=True)
class WalDirectory:
    """wal_directory.sql: the files of pg_wal, without its subdirectories."""

    size_bytes: int
    """The sum of the files' sizes."""
    first_segments: list[int]
    """The first number of each range of segments without a gap, in ascending order; on most servers there is one."""
    last_segments: list[int]
    """The last number of each of these ranges. Segments that are kept for reuse have numbers above the position's."""
    position: int | None
    """Bytes since 0/0: written on a primary, received on a standby. None: the standby has received nothing yet."""


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """archive_status.sql: the files of pg_wal/archive_status that wait for the archiver."""

    ready_files: int
    """Includes the files of timeline histories and of backups."""
    oldest_ready: str | None
    """The oldest segment that waits: 16 hexadecimal digits, the name without the timeline. None: no segment waits."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """checkpoint.sql: the last checkpoint; on a standby the last restartpoint."""

    redo_position: int
    """Bytes since 0/0: recovery would begin here, and needs all WAL from here on."""
    checkpoint_time: float
    """Unix time at which it began."""

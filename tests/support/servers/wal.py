"""
Reads the kinds of records from WAL files of any version; pg_waldump reads only those of its own version.

The headers of records and pages are the same in PostgreSQL 14 to 18 (xlogrecord.h, xlog_internal.h).
"""

import struct
from collections.abc import Iterator
from pathlib import Path

Kind = tuple[int, int]
"""The resource manager's id and its code for the kind of record."""

RUNNING_XACTS: Kind = (8, 0x10)
MESSAGE: Kind = (21, 0x00)
"""The record of pg_logical_emit_message()."""
_SWITCH: Kind = (0, 0x40)

_SEGMENT = 16 * 1024 * 1024
_PAGE = 8192
_RECORD_HEADER = struct.Struct("<IIQBB2xI")
_ALIGNMENT = 8


def kinds_between(start: int, end: int, folder: Path, timeline: int) -> Iterator[Kind]:
    """Return the kinds of the records between two LSNs; WAL must have been written out up to `end`."""
    log = _Log(folder, timeline, start, end)
    try:
        while True:
            header = log.take(_RECORD_HEADER.size)
            length, _xid, _previous, info, manager, _checksum = _RECORD_HEADER.unpack(header)
            log.take(length - len(header))
            kind = (manager, info & 0xF0)
            yield kind
            # After a WAL switch the rest of the segment is empty.
            log.skip_to_multiple_of(_SEGMENT if kind == _SWITCH else _ALIGNMENT)
    except EOFError:
        return


class _Log:
    """The bytes of WAL, without page headers."""

    def __init__(self, folder: Path, timeline: int, start: int, end: int) -> None:
        self._folder = folder
        self._timeline = timeline
        self._position = start
        self._end = end

    def take(self, count: int) -> bytes:
        """Return the next bytes. Raises EOFError at the end."""
        data = b""
        while len(data) < count:
            if self._position % _PAGE == 0:
                self._position += 24 if self._position % _SEGMENT else 40
            size = min(count - len(data), _PAGE - self._position % _PAGE)
            if self._position + size > self._end:
                raise EOFError
            data += self._read(size)
            self._position += size
        return data

    def skip_to_multiple_of(self, unit: int) -> None:
        self._position += -self._position % unit

    def _read(self, size: int) -> bytes:
        high, low = divmod(self._position // _SEGMENT, 2**32 // _SEGMENT)
        with (self._folder / f"{self._timeline:08X}{high:08X}{low:08X}").open("rb", buffering=0) as file:
            file.seek(self._position % _SEGMENT)
            return file.read(size)

"""
Reads records from WAL files of any version; pg_waldump reads only those of its own version.

The headers of records and pages are the same in PostgreSQL 14 to 19 (xlogrecord.h, xlog_internal.h), as is what a
running-xacts record contains (xl_running_xacts, standbydefs.h).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
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

# Of a record's parts (xlogrecord.h), which begin with these ids; a smaller id is that of a block.
_TOPLEVEL_XID, _ORIGIN, _LONG_DATA, _SHORT_DATA = 252, 253, 254, 255
_HAS_IMAGE, _SAME_RELATION = 0x10, 0x80
_RUNNING = struct.Struct("<iiiIII")
"""xcnt, subxcnt, whether subxids are missing, nextXid, oldestRunningXid, latestCompletedXid; then the xids."""


@dataclass(frozen=True)
class WalRecord:
    """One record."""

    lsn: int
    """Where it begins."""
    kind: Kind
    xid: int
    """0: it belongs to no transaction."""
    toplevel_xid: int | None
    """The transaction of the subtransaction that it belongs to, in the first record of that one; None in all others."""
    running: frozenset[int] | None
    """The xids of the open transactions in a running-xacts record, without subtransactions; None in all others."""


def kinds_between(start: int, end: int, folder: Path, timeline: int) -> Iterator[Kind]:
    """Return the kinds of the records between two LSNs; WAL must have been written out up to `end`."""
    return (record.kind for record in records_between(start, end, folder, timeline))


def records_between(start: int, end: int, folder: Path, timeline: int) -> Iterator[WalRecord]:
    """Return the records between two LSNs; WAL must have been written out up to `end`."""
    log = _Log(folder, timeline, start, end)
    try:
        while True:
            log.skip_page_header()
            lsn = log.position
            header = log.take(_RECORD_HEADER.size)
            length, xid, _previous, info, manager, _checksum = _RECORD_HEADER.unpack(header)
            body = log.take(length - len(header))
            kind = (manager, info & 0xF0)
            toplevel_xid, data = _parts(body)
            yield WalRecord(lsn, kind, xid, toplevel_xid, _running(data) if kind == RUNNING_XACTS else None)
            # After a WAL switch the rest of the segment is empty.
            log.skip_to_multiple_of(_SEGMENT if kind == _SWITCH else _ALIGNMENT)
    except EOFError:
        return


def _parts(body: bytes) -> tuple[int | None, bytes]:
    """Return the top-level xid, if the record has one, and its main data."""
    position, data_length, toplevel_xid = 0, 0, None
    # The headers of all parts come first, then the data of the blocks, then the main data.
    while len(body) - position > data_length:
        part, position = body[position], position + 1
        if part == _SHORT_DATA:
            return toplevel_xid, body[len(body) - body[position] :] if body[position] else b""
        if part == _LONG_DATA:
            (length,) = struct.unpack_from("<I", body, position)
            return toplevel_xid, body[len(body) - length :]
        if part == _ORIGIN:
            position += 2
        elif part == _TOPLEVEL_XID:
            (toplevel_xid,) = struct.unpack_from("<I", body, position)
            position += 4
        else:
            flags, length = struct.unpack_from("<BH", body, position)
            position, data_length = position + 3, data_length + length
            if flags & _HAS_IMAGE:
                # Without wal_compression its header has five bytes.
                (length,) = struct.unpack_from("<H", body, position)
                position, data_length = position + 5, data_length + length
            position += 4 if flags & _SAME_RELATION else 16
    return toplevel_xid, b""


def _running(data: bytes) -> frozenset[int]:
    count, *_ = _RUNNING.unpack_from(data)
    return frozenset(struct.unpack_from(f"<{count}I", data, _RUNNING.size))


class _Log:
    """The bytes of WAL, without page headers."""

    def __init__(self, folder: Path, timeline: int, start: int, end: int) -> None:
        self._folder = folder
        self._timeline = timeline
        self.position = start
        self._end = end

    def take(self, count: int) -> bytes:
        """Return the next bytes. Raises EOFError at the end."""
        data = bytearray()
        while len(data) < count:
            self.skip_page_header()
            size = min(count - len(data), _PAGE - self.position % _PAGE)
            if self.position + size > self._end:
                raise EOFError
            data += self._read(size)
            self.position += size
        return bytes(data)

    def skip_page_header(self) -> None:
        """Go on after the header, if a page begins here: no record begins before it."""
        if self.position % _PAGE == 0:
            self.position += 24 if self.position % _SEGMENT else 40

    def skip_to_multiple_of(self, unit: int) -> None:
        self.position += -self.position % unit

    def _read(self, size: int) -> bytes:
        high, low = divmod(self.position // _SEGMENT, 2**32 // _SEGMENT)
        with (self._folder / f"{self._timeline:08X}{high:08X}{low:08X}").open("rb", buffering=0) as file:
            file.seek(self.position % _SEGMENT)
            return file.read(size)

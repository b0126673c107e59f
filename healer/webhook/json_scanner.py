"""
Reads a JSON document piece by piece, so that a large one never exists as Python objects all at once.

16 MiB of `[]` become 500 MB of lists in json.loads(). Values are decoded by the standard library's decoder, from slices
of the document; only the objects and arrays around them are read here.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

MAX_VALUE_BYTES = 256 * 1024
MAX_MEMBERS = 100
"""Of an object that is read here member by member; a webhook has eleven."""
_SLICES = (4096, 32 * 1024, MAX_VALUE_BYTES)
"""Bytes to try to decode a value from, one after the other: most are short, and a slice is copied."""
_WHITESPACE = re.compile(rb"[ \t\n\r]*")


class JsonScanner:
    """A position in a document in UTF-8. Methods raise ValueError for what is not JSON, or a value that is too long."""

    def __init__(self, document: bytes | bytearray) -> None:
        self._document = memoryview(document)
        self._decoder = json.JSONDecoder()
        self._position = 0

    def at(self, byte: bytes) -> bool:
        """Skip white space; return whether this byte is next."""
        match = _WHITESPACE.match(self._document, self._position)
        assert match is not None  # noqa: S101 - it matches nothing as well
        self._position = match.end()
        return bytes(self._document[self._position : self._position + 1]) == byte

    def value(self) -> Any:
        """Return the value at this position, of at most MAX_VALUE_BYTES, and go behind it."""
        self.at(b"")
        rest = len(self._document) - self._position
        for size in _SLICES:
            last = size >= rest
            text, _ = codecs.utf_8_decode(self._document[self._position : self._position + size], "strict", last)
            try:
                value, end = self._decoder.raw_decode(text)
            except RecursionError:
                raise self._error("nested too deeply") from None
            except json.JSONDecodeError as error:
                if last:
                    raise self._error(error.msg) from None
                continue
            # The slice may have cut a number in two.
            if end < len(text) or last:
                self._position += end if text.isascii() else len(text[:end].encode())
                return value
        raise self._error(f"no value of at most {MAX_VALUE_BYTES} bytes")

    def members(self) -> Iterator[str]:
        """Yield the names of the object at this position; the caller goes behind the value of each."""
        self._expect(b"{")
        if self.at(b"}"):
            self._position += 1
            return
        for _ in range(MAX_MEMBERS):
            if not self.at(b'"'):
                raise self._error("expected a name in double quotes")
            yield str(self.value())
            if self._is_last(b"}"):
                return
        raise self._error(f"an object of more than {MAX_MEMBERS} members")

    def enter_value(self) -> None:
        """Go from a member's name to its value."""
        self._expect(b":")

    def elements(self) -> Iterator[int]:
        """Yield the indexes of the array at this position; the caller goes behind each element."""
        self._expect(b"[")
        if self.at(b"]"):
            self._position += 1
            return
        index = 0
        while True:
            yield index
            if self._is_last(b"]"):
                return
            index += 1

    def end(self) -> None:
        """Check that nothing but white space is left."""
        self.at(b"")
        if self._position != len(self._document):
            raise self._error("extra data")

    def _expect(self, byte: bytes) -> None:
        if not self.at(byte):
            raise self._error(f"expected {byte.decode()!r}")
        self._position += 1

    def _is_last(self, closing: bytes) -> bool:
        if self.at(closing):
            self._position += 1
            return True
        self._expect(b",")
        return False

    def _error(self, problem: str) -> ValueError:
        return ValueError(f"{problem} (byte {self._position})")

"""The scanner reads what json.loads() reads, piece by piece."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from healer.webhook.json_scanner import JsonScanner

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=25,
)


def scanned(scanner: JsonScanner, depth: int) -> Any:
    """Read objects and arrays down to this depth member by member, and what is below as values."""
    if depth and scanner.at(b"{"):
        result = {}
        for name in scanner.members():
            scanner.enter_value()
            result[name] = scanned(scanner, depth - 1)
        return result
    if depth and scanner.at(b"["):
        return [scanned(scanner, depth - 1) for _ in scanner.elements()]
    return scanner.value()


@given(JSON, st.booleans(), st.sampled_from([None, 1]), st.integers(0, 4))
def test_document_is_read_as_by_the_standard_library(
    document: Any, escaped: bool, indent: int | None, depth: int
) -> None:
    body = json.dumps(document, ensure_ascii=escaped, indent=indent).encode(errors="surrogatepass")
    try:
        body.decode()
    except UnicodeDecodeError:
        return
    scanner = JsonScanner(body)
    assert scanned(scanner, depth) == document
    scanner.end()


@given(st.text(alphabet='[]{},:"1 a', max_size=12))
def test_text_that_is_no_json_is_an_error_and_no_other_exception(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        expected = ValueError
    scanner = JsonScanner(text.encode())
    try:
        result = scanned(scanner, 3)
        scanner.end()
    except ValueError:
        result = ValueError
    assert result == expected

"""A file that is not YAML: the error names the line, what is expected there and what was found, in plain words."""

from pathlib import Path

import pytest

from pgslot.cli.errors import ConfigError
from pgslot.config.yaml_values import read

COLON = (
    'expected "key: value" with one colon, found a colon that cannot be here: this line is indented too far, needs'
    " quotes around its value, or a line above lacks a colon or the space after it"
)
MISTAKES = {
    "a key in a new column": (
        "clusters:\n  a:\n    nodes: {}\n   healer:\n     enabled: true\n",
        "4: expected keys of a mapping in one column, found a key in a column that no line above has"
        " (the mapping begins in line 2)",
    ),
    "a key below a list": (
        "- a\nb: 1\n",
        "2: expected lines of a list or mapping in one column,"
        " found a line that does not continue what begins in line 1",
    ),
    "a key below a value": ("a: b\n  c: d\n", f"2: {COLON}"),
    "two colons": ("clusters: a: b\n", f"1: {COLON}"),
    "a tab": ("clusters:\n\ta: 1", "2: expected spaces for indentation, found a tab"),
    "a sign": ("a: @b\n", "1: expected a value, found @, with which only quoted text can begin"),
    "an open list": ("clusters: [", "1: expected the bracket that closes line 1, found the end"),
    "an open brace": (
        "a:\n  b: {c: {d: e}\n",
        '3: expected the "}" that closes what begins in line 2, found the end',
    ),
    "a missing comma": (
        "a: [b, c: d e: f]\n",
        '1: expected a comma or "]", found something else in what line 1 begins',
    ),
    "an open quote": ('a:\n  b: "c\n', "3: expected the quote that closes the text of line 2, found the end"),
    "an asterisk": (
        "a: *secret\n",
        "1: expected quotes around text that begins with *, found none: it reads as an alias",
    ),
    "two documents": ("a: 1\n---\nb: 2\n", '2: expected one document, found a second one after "---"'),
    "a backslash": (
        'a: "C:\\q"\n',
        "1: expected single quotes, or a doubled backslash, found a backslash before q",
    ),
    "a tag": ("a: !b c\n", '1: expected a value without a tag, found a tag ("!")'),
    "a control character": ("a: b\nc: \x01\n", "2: expected printable text, found the character U+0001"),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_syntax_error_is_in_words_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "pgslot.yml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(file)
    assert str(caught.value) == f"{file}:{message}"

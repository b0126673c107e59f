"""PyYAML's syntax errors in words: what the place needs, and what stands there, without the parser's token names."""

import re

import yaml

_KINDS: tuple[tuple[str, str, str], ...] = (
    # PyYAML's problem, what is expected, what was found; {line} is where the enclosing construct begins.
    (
        r"expected <block end>, but found '<block mapping start>'",
        "keys of a mapping in one column",
        "a key in a column that no line above has (the mapping begins in line {line})",
    ),
    (
        r"expected <block end>, but found .*",
        "lines of a list or mapping in one column",
        "a line that does not continue what begins in line {line}",
    ),
    (
        r"mapping values are not allowed here",
        '"key: value" with one colon',
        "a colon that cannot be here: this line is indented too far, needs quotes around its value,"
        " or a line above lacks a colon or the space after it",
    ),
    (r"found character '\\t' .*", "spaces for indentation", "a tab"),
    (r"found character '(.)' that cannot start any token", "a value", "{0}, with which only quoted text can begin"),
    (r"expected the node content, but found '<stream end>'", "the bracket that closes line {line}", "the end"),
    (r"expected ',' or '(.)', but got '<stream end>'", 'the "{0}" that closes what begins in line {line}', "the end"),
    (r"expected ',' or '(.)', but got .*", 'a comma or "{0}"', "something else in what line {line} begins"),
    (r"found unexpected end of stream", "the quote that closes the text of line {line}", "the end"),
    (r"found undefined alias .*", "quotes around text that begins with *", "none: it reads as an alias"),
    (r"but found another document", "one document", 'a second one after "---"'),
    (r"found unknown escape character '(.)'", "single quotes, or a doubled backslash", "a backslash before {0}"),
    (r"could not determine a constructor for the tag .*", "a value without a tag", 'a tag ("!")'),
)
"""What is expected and found at the place of a problem; the first pattern that matches the whole problem counts."""


def explain(error: yaml.YAMLError, text: str) -> tuple[int, str, str]:
    """Return the line (from 1), what is expected there and what was found; `text` is the file's."""
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 1, "printable text", f"the character U+{error.character:04X}"
    if not isinstance(error, yaml.MarkedYAMLError):
        return 1, "YAML", str(error)
    mark, begin = error.problem_mark or error.context_mark, error.context_mark or error.problem_mark
    line, first = (mark.line + 1 if mark else 1), (begin.line + 1 if begin else 1)
    problem = (error.problem or "").replace("\t", "\\t")
    for pattern, expected, found in _KINDS:
        match = re.fullmatch(pattern, problem)
        if match is not None:
            return line, expected.format(*match.groups(), line=first), found.format(*match.groups(), line=first)
    return line, "YAML", problem

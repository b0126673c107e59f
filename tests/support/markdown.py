"""Reads the fenced blocks, code spans, links and headings of a Markdown file."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

_COMMONMARK = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Fence:
    """A fenced block: its info string, its section, its line number (from 1) and its text."""

    info: str
    section: str
    line: int
    text: str


def fences(file: Path) -> Iterator[Fence]:
    """Return all blocks in order, including those inside lists; `section` is the last heading of level two."""
    section = ""
    for before, token in pairwise(_parsed(file)):
        if before.type == "heading_open" and before.tag == "h2":
            section = token.content
        elif token.type in {"fence", "code_block"}:
            assert token.map is not None
            yield Fence(token.info.strip(), section, token.map[0] + 1, token.content)


def code_spans(file: Path) -> list[str]:
    """Return the texts between single backticks."""
    return [token.content for token in _inline(file) if token.type == "code_inline"]


def link_targets(file: Path) -> list[str]:
    """Return the targets of links and pictures."""
    targets = [token.attrs.get("href", token.attrs.get("src")) for token in _inline(file)]
    return [str(target) for target in targets if target is not None]


def headings(file: Path) -> list[str]:
    return [after.content for token, after in pairwise(_parsed(file)) if token.type == "heading_open"]


def _inline(file: Path) -> Iterator[Token]:
    for token in _parsed(file):
        yield from token.children or ()


def _parsed(file: Path) -> list[Token]:
    return _COMMONMARK.parse(file.read_text("utf-8"))

"""Reads the fenced blocks, code spans, links and headings of a Markdown file."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

_COMMONMARK = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Fence:
    """A fenced block: its info string, its section, its line number (from 1) and its text."""

    file: Path
    info: str
    section: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line}"


def fences(file: Path) -> Iterator[Fence]:
    """Return all blocks in order, including those inside lists; `section` is the last heading of level two."""
    section = ""
    for before, token in pairwise(_parsed(file)):
        if before.type == "heading_open" and before.tag == "h2":
            section = token.content
        elif token.type in {"fence", "code_block"}:
            assert token.map is not None
            yield Fence(file, token.info.strip(), section, token.map[0] + 1, token.content)


def code_spans(file: Path) -> list[str]:
    """Return the texts between single backticks."""
    return [token.content for token in _inline(file) if token.type == "code_inline"]


def link_targets(file: Path) -> list[str]:
    """Return the targets of links and pictures, including those of `<picture>`."""
    targets = [token.attrs.get("href", token.attrs.get("src")) for token in _inline(file)]
    html = "".join(token.content for token in _parsed(file) if token.type == "html_block")
    return [str(target) for target in targets if target is not None] + re.findall(r' (?:src|srcset)="([^"]+)"', html)


def headings(file: Path) -> list[str]:
    return [after.content for token, after in pairwise(_parsed(file)) if token.type == "heading_open"]


def _inline(file: Path) -> Iterator[Token]:
    for token in _parsed(file):
        yield from token.children or ()


def _parsed(file: Path) -> tuple[Token, ...]:
    return _tokens(file.read_text("utf-8"))


@cache
def _tokens(text: str) -> tuple[Token, ...]:
    """Many tests read the same pages; their parametrization does so in every worker."""
    return tuple(_COMMONMARK.parse(text))

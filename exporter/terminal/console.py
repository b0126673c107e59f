"""Where `status` prints: a terminal with what it can do, or a pipe, which gets plain text that does not wrap."""

import io
from typing import TextIO

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

PIPE_WIDTH = 4000
"""A pipe has no width: lines are as long as they are."""


def console_for(stream: TextIO) -> Console:
    """
    Return the console of a stream. Colour and boxes are for terminals alone; NO_COLOR and TERM=dumb are honoured.

    What the stream's encoding does not have is written as an escape, not refused.
    """
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    if not stream.isatty():
        return Console(file=stream, force_terminal=False, no_color=True, width=PIPE_WIDTH, legacy_windows=False)
    return Console(file=stream, highlight=False)


def ascii_only(console: Console) -> bool:
    """Return whether the terminal's encoding has no characters for boxes and sparklines."""
    return not console.encoding.lower().startswith("utf")


def print_plainly(console: Console, *renderables: RenderableType) -> None:
    """Print these; in a pipe without the spaces that fill a column, which only make lines longer."""
    if console.is_terminal:
        console.print(*renderables, sep="\n", crop=False)
        return
    with console.capture() as captured:
        console.print(*renderables, sep="\n", crop=False)
    console.file.write("\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n")
    console.file.flush()


def indented(text: str, spaces: int, style: str = "") -> RenderableType:
    """Return a text whose lines all begin at this column, where it takes several."""
    return Padding(Text(text, style=style), (0, 0, 0, spaces), expand=False)


def command(text: str, spaces: int) -> Text:
    """Return a statement on one line: a line break of ours would be copied with it."""
    return Text(" " * spaces + text, style="cyan", no_wrap=True, overflow="ignore")

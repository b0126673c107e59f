"""The demo's output: a timeline in seconds, with colour and a progress line on a terminal, plain text otherwise."""

import os
import shutil
import sys
import textwrap
import time

COLOURS = {
    "demo": "1",
    "client": "36",
    "consumer": "36",
    "primary": "34",
    "exporter": "33",
    "prometheus": "35",
    "healer": "32",
}
BOLD, DIM, GREEN, RED = "1", "2", "32", "31"


class Timeline:
    """Prints to standard output; seconds count from its creation."""

    def __init__(self) -> None:
        self._started = time.time()
        self._terminal = sys.stdout.isatty()
        self._colour = self._terminal and "NO_COLOR" not in os.environ
        self._progress_shown = False

    @property
    def seconds(self) -> float:
        return time.time() - self._started

    def heading(self, text: str) -> None:
        self._print("")
        self._print(self.paint(text, BOLD))

    def report(self, source: str, text: str, at: float | None = None) -> None:
        """Print what a source showed; `at` is Unix time, None now."""
        seconds = (at or time.time()) - self._started
        head = f"{seconds:7.2f} s  {source:<10}  "
        width = max(40, shutil.get_terminal_size((120, 24)).columns - len(head)) if self._terminal else 10_000
        first, *rest = textwrap.wrap(text, width) or [""]
        self._print(
            self.paint(head[:11], DIM) + self.paint(head[11:], COLOURS.get(source, BOLD)) + first,
            *(" " * len(head) + line for line in rest),
        )

    def progress(self, what: str, seconds: float) -> None:
        """Show what the demo waits for; on a terminal only, on a line that is overwritten."""
        if self._terminal and seconds > 0.3:
            sys.stdout.write(f"\r\x1b[K{self.paint(f'{self.seconds:7.2f} s  waiting until {what} …', DIM)}")
            sys.stdout.flush()
            self._progress_shown = True

    def table(self, rows: list[tuple[str, str, bool]]) -> None:
        """Print the closing table: story, claim, and whether it held."""
        width = max(len(claim) for _, claim, _ in rows)
        story_before = ""
        for story, claim, held in rows:
            if story != story_before:
                self._print(self.paint(story, BOLD))
                story_before = story
            mark = self.paint("held", GREEN) if held else self.paint("DID NOT HOLD", RED)
            self._print(f"  {claim:<{width}}  {mark}")

    def paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text

    def _print(self, *lines: str) -> None:
        if self._progress_shown:
            sys.stdout.write("\r\x1b[K")
            self._progress_shown = False
        print(*lines, sep="\n", flush=True)

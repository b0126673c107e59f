"""What every HTML page of both programs has to keep to, for people who use a keyboard, a screen reader or a phone."""

import html
import re
from html.parser import HTMLParser

from pgslot.pages.frame import SCRIPT

SMALLEST_CONTRAST = 4.5
"""WCAG 2 level AA, for text of normal size."""


class _Structure(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.counts: dict[str, int] = {}
        self._header: str | None = None
        self._in_drawing = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "svg":
            self._in_drawing = True
        if not self._in_drawing:
            # A drawing has a title of its own.
            self.counts[tag] = self.counts.get(tag, 0) + 1
        self.problems += [f"<{tag} style>, which the Content-Security-Policy forbids"] * ("style" in attributes)
        self._end_header()
        if tag in ("script", "iframe", "form", "img", "object"):
            self.problems.append(f"<{tag}>, which the Content-Security-Policy forbids")
        may_scroll = tag == "pre" or "scroll" in (attributes.get("class") or "").split()
        if may_scroll and attributes.get("tabindex") != "0":
            self.problems.append(f"<{tag}> may scroll and cannot be focused")
        if tag == "th":
            self._header = ""
        self.problems += [f"<{tag} {name}>" for name in attributes if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self._header is not None:
            self._header += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "svg":
            self._in_drawing = False
        self._end_header()

    def _end_header(self) -> None:
        if self._header is not None and not self._header.strip():
            self.problems.append("an empty <th>")
        self._header = None


def problems(page: str) -> list[str]:
    """Return what is wrong with a page's structure and colours."""
    structure = _Structure()
    structure.feed(page.replace(f"<script>{SCRIPT}</script>", "", 1))
    wrong = [f"<{tag}> is there {structure.counts.get(tag, 0)} times" for tag in ("main", "h1", "title")
             if structure.counts.get(tag) != 1]  # fmt: skip
    return structure.problems + wrong + _faint_colours(page)


def _faint_colours(page: str) -> list[str]:
    """Return the colours of text that are hard to read on the page's ground, in the light and in the dark scheme."""
    light = dict(re.findall(r"--(\w+): (#\w+)", page.partition("@media")[0]))
    dark = light | dict(re.findall(r"--(\w+): (#\w+)", " ".join(re.findall(r"@media.*", page))))
    return [
        f"{name} {colours[name]} on {ground} {colours[ground]}: contrast {contrast:.1f}"
        for colours in (light, dark)
        for name in colours.keys() - {"ground", "box", "line"}
        for ground in ("ground", "box")
        if ground in colours
        if (contrast := contrast_ratio(colours[name], colours[ground])) < SMALLEST_CONTRAST
    ]


def contrast_ratio(first: str, second: str) -> float:
    """Return the contrast of two colours in the notation #rgb or #rrggbb, as WCAG 2 defines it: from 1 to 21."""
    darker, lighter = sorted((_luminance(first), _luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    digits = colour.removeprefix("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def text_of(page: str) -> str:
    """Return the text of a page's <main> in one line, without tags."""
    body = page.split("<main>")[1].split("</main>", maxsplit=1)[0]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())

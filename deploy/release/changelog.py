"""CHANGELOG.md: which versions it has, and what it says of one."""

import re
from pathlib import Path

_SECTION = re.compile(
    r"^## \[(?P<version>[^\]]+)\](?: - (?P<date>\d{4}-\d\d-\d\d))?\n(?P<text>.*?)(?=^## \[|\Z)",
    re.MULTILINE | re.DOTALL,
)
UNRELEASED = "Unreleased"


class ReleaseError(Exception):
    """What is to be released is not consistent. The text names the place, what was expected, and what was found."""


def sections(changelog: str) -> dict[str, tuple[str | None, str]]:
    """Return the date and the text of each version, newest first; the date of `Unreleased` is None."""
    return {match["version"]: (match["date"], match["text"].strip()) for match in _SECTION.finditer(changelog)}


def release_notes(changelog: str, version: str) -> str:
    """Return what the newest release says. Raises ReleaseError unless that is this version, with a date and a text."""
    found = sections(changelog)
    released = [name for name in found if name != UNRELEASED]
    if not released or released[0] != version:
        newest = released[0] if released else "none"
        raise ReleaseError(f"CHANGELOG.md: expected {version} as its newest release, found {newest}")
    date, text = found[version]
    if date is None or not text:
        raise ReleaseError(f"CHANGELOG.md: expected a date and a text for {version}, found {date or 'no date'}")
    if found.get(UNRELEASED, (None, ""))[1]:
        raise ReleaseError(
            f"CHANGELOG.md: expected nothing under [{UNRELEASED}] when {version} is released, found text"
        )
    return text + "\n"


def check_tag(tag: str, version: str) -> None:
    """Raise ReleaseError unless the tag is the version's."""
    if tag != f"v{version}":
        raise ReleaseError(f"the tag: expected v{version}, as pgslot/__init__.py has it, found {tag}")


def check_between_releases(changelog: str, version: str) -> None:
    """Raise ReleaseError if neither a release of this version nor something unreleased is on top."""
    found = sections(changelog)
    released = [name for name in found if name != UNRELEASED]
    if released and released[0] != version:
        raise ReleaseError(f"CHANGELOG.md: expected {version}, as pgslot/__init__.py has it, found {released[0]}")
    if not released and UNRELEASED not in found:
        raise ReleaseError("CHANGELOG.md: expected a version or [Unreleased], found neither")


def read_changelog(root: Path) -> str:
    return (root / "CHANGELOG.md").read_text("utf-8")

"""The configuration reference, from pgslot/config/keys.py."""

from docs.generators.markdown import table
from pgslot.config.keys import SECTIONS, Section

_HEAD = """# Configuration

Generated from `pgslot/config/keys.py` by `make docs-reference`; do not edit.

Both programs read one YAML file. `--check` reads it without asking a server; an error names the file, the line, the
key, what was expected and what was found. SIGHUP and `/-/reload` read the file again. A file with an error changes
nothing.

A duration is a number with a unit: `500ms`, `10s`, `5m`, `1h30m`, `1d`. Names of clusters and nodes have letters,
digits and `_ . : -`, at most 128 of them. A key that is not listed here is an error.
"""


def configuration_page() -> str:
    """Return the page: one table for each section of the file."""
    return _HEAD + "".join(map(_section, SECTIONS))


def _section(section: Section) -> str:
    title = f"`{section.path}`" if section.path else "The file"
    rows = [(f"`{key.name}`", key.type, key.default, key.meaning, key.since) for key in section.keys]
    return f"\n## {title}\n\n{section.meaning}\n\n{table(('key', 'type', 'default', 'meaning', 'since'), rows)}"

"""Which part of a scrape is asked for: the parameter collect[], as node_exporter has it."""

from collections.abc import Sequence

from pgslot.snapshot.queries import CREATIONS, QUERIES, Query

ALL = frozenset(probe.name for probe in QUERIES)
"""The parts are named after the probes that they show; pgslot_up and the look's duration come with each."""


def parse_collect(names: Sequence[str]) -> frozenset[str]:
    """Return the parts of these names, all for none. Raises ValueError for a name that is no part's."""
    unknown = sorted(set(names) - ALL)
    if unknown:
        raise ValueError(f"collect[]: expected {', '.join(sorted(ALL))}; found {', '.join(map(repr, unknown))}")
    return frozenset(names) or ALL


def scope_for(parts: frozenset[str]) -> Sequence[Query]:
    """
    Return what has to be asked for these parts.

    Only creations are told by fewer probes than all: everything else is explained by what the node's history shows, and
    that needs whole looks.
    """
    return CREATIONS if parts == {"creations"} else QUERIES

"""Which part of a scrape is asked for: the parameter collect[], as node_exporter has it."""

from collections.abc import Sequence

from pgslot.snapshot.queries import CREATIONS, PROBES, Probe

EVERYTHING = frozenset(probe.name for probe in PROBES)
"""The parts are named after the probes that they show; pgslot_up and the look's duration come with each."""


def asked(names: Sequence[str]) -> frozenset[str]:
    """Return the parts of these names, all for none. Raises ValueError for a name that is no part's."""
    unknown = sorted(set(names) - EVERYTHING)
    if unknown:
        raise ValueError(f"collect[]: expected {', '.join(sorted(EVERYTHING))}; found {', '.join(map(repr, unknown))}")
    return frozenset(names) or EVERYTHING


def probes_for(parts: frozenset[str]) -> Sequence[Probe]:
    """
    Return what has to be asked for these parts.

    Only creations are told by fewer probes than all: everything else is explained by what the node's history shows, and
    that needs whole looks.
    """
    return CREATIONS if parts == {"creations"} else PROBES

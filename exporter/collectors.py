"""The part of a scrape that is asked for: the parameter collect[], as in node_exporter."""

from collections.abc import Sequence

from pgslot.snapshot.queries import QUERIES, WAL_DIRECTORY, Scope

ALL = frozenset(query.name for query in (*QUERIES, WAL_DIRECTORY))
"""
Collectors are named after the queries whose rows they show; pgslot_up and the scrape's duration come with each.

All that is asked with the WAL directory is shown with it.
"""


def parse_collect(names: Sequence[str]) -> frozenset[str]:
    """Return the collectors of these names, all of them for no name. Raises ValueError for an unknown name."""
    unknown = sorted(set(names) - ALL)
    if unknown:
        raise ValueError(f"collect[]: expected {', '.join(sorted(ALL))}; found {', '.join(map(repr, unknown))}")
    return frozenset(names) or ALL


def scope_for(collectors: frozenset[str]) -> Scope:
    """
    Return what the nodes have to be asked for these collectors.

    Only creations can do with less than everything: what the other collectors show is explained by the node's history,
    in which only complete snapshots are recorded.
    """
    return Scope.CREATIONS if collectors == {"creations"} else Scope.EVERYTHING

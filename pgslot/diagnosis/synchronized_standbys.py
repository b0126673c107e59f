"""The setting synchronized_standby_slots (17 and later): which physical slots consumers of failover slots wait for."""

import re

from pgslot.snapshot.rows import NodeFacts

_NAME = re.compile(r'\s*("?)(?P<name>[A-Za-z0-9_]+)\1\s*')


def listed_slots(facts: NodeFacts | None) -> tuple[str, ...] | None:
    """
    Return the names that a node's setting lists; empty also if the node did not answer.

    17 to 19 accept a list and nothing else. PostgreSQL folds names to lower case, which all names of slots have. None:
    the setting has another grammar, such as `ANY 2 (a, b)`, and which of its slots consumers wait for is unknown.
    """
    setting = "" if facts is None else facts.synchronized_standby_slots.strip()
    if not setting:
        return ()
    names = [_NAME.fullmatch(item) for item in setting.split(",")]
    return None if None in names else tuple(name["name"].lower() for name in names if name is not None)

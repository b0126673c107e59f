"""The shipped rules about the volume, with all their times divided by one factor."""

import re

import yaml

from tests.support.alert_rules import RULES

GROUP = "pgslot-disk"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def faster_rules(factor: int) -> str:
    """Return the rules; ranges, offsets, `for` and the hours until the volume is full are divided, bytes are not."""
    rules = yaml.safe_load(RULES.read_text("utf-8"))
    for group in rules["groups"]:
        if group["name"] != GROUP:
            continue
        del group["interval"]
        for rule in group["rules"]:
            rule["expr"] = re.sub(
                r"(\[|offset )(\d+)([smhd])\b", lambda m: f"{m[1]}{_divided(m[2], m[3], factor)}", rule["expr"]
            )
            rule["expr"] = re.sub(r"< (14400|86400)\b", lambda m: f"< {int(m[1]) / factor}", rule["expr"])
            for key in ("for", "keep_firing_for"):
                if key in rule:
                    rule[key] = _divided(rule[key][:-1], rule[key][-1], factor)
    return yaml.safe_dump(rules, width=10_000)


def _divided(number: str, unit: str, factor: int) -> str:
    """Return the duration divided by the factor, but no less than three evaluations of a second."""
    return f"{max(3000, int(number) * _SECONDS[unit] * 1000 // factor)}ms"

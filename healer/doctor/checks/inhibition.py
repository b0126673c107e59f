"""Alertmanager's inhibit rules that can keep alerts from the healer; of the shipped ones none can."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from healer.doctor.checks.routing import Matcher, parse_matchers
from healer.doctor.checks.silences import SLOT_LABELS
from healer.doctor.result import CheckStatus, Finding
from healer.webhook.payload import HEAL_LABEL

_ADVICE = 'Add heal="" to its target_matchers, as in alerts/alertmanager.yml, so that the healer gets its alerts.'


@dataclass(frozen=True, slots=True)
class Inhibition:
    """An entry of `inhibit_rules`."""

    sources: tuple[Matcher, ...]
    targets: tuple[Matcher, ...]
    equal: tuple[str, ...]

    def inhibits(self, source: Mapping[str, str], target: Mapping[str, str]) -> bool:
        """Return whether `source`, while it fires, mutes `target`, as inhibit/inhibit.go does. Raises RoutingError."""
        if not (_accepted(self.sources, source) and _accepted(self.targets, target)):
            return False
        if any(source.get(label, "") != target.get(label, "") for label in self.equal):
            return False
        # An alert that matches both sides is not inhibited by another alert that matches both sides.
        return not (_accepted(self.targets, source) and _accepted(self.sources, target))


def parse_inhibitions(data: Any) -> list[Inhibition]:
    """Return Alertmanager's `inhibit_rules`. Raises RoutingError, TypeError or AttributeError."""
    return [
        Inhibition(_matchers(rule, "source"), _matchers(rule, "target"), tuple(map(str, rule.get("equal") or ())))
        for rule in data.get("inhibit_rules") or ()
    ]


def judge_inhibitions(data: Any, alerts: Sequence[Mapping[str, str]], shown: str) -> Iterator[Finding]:
    """
    Name the inhibit rules whose targets include alerts for the healer, whatever has to fire for that.

    `data`: Alertmanager's configuration; `alerts`: labels of the alerts for the healer. Raises RoutingError, TypeError
    or AttributeError.
    """
    muting = False
    for number, inhibition in enumerate(parse_inhibitions(data), 1):
        targets = [matcher for matcher in inhibition.targets if matcher.label not in SLOT_LABELS]
        # The heartbeat has no labels of a cluster, which nearly all rules compare; its absence is noticed as such.
        names = dict.fromkeys(
            alert["alertname"]
            for alert in alerts
            if HEAL_LABEL in alert and all(matcher.accepts(alert) for matcher in targets)
        )
        if names:
            muting = True
            source = ", ".join(f'{matcher.label}{matcher.operator}"{matcher.value}"' for matcher in inhibition.sources)
            while_what = f"an alert with {source}" if source else "any alert"
            found = f"rule {number} keeps {', '.join(names)} from the healer while {while_what} fires"
            yield Finding("inhibition", shown, CheckStatus.WARNING, found, _ADVICE)
    if not muting:
        yield Finding("inhibition", shown, CheckStatus.OK, "no inhibit rule suppresses an alert for the healer")


def _matchers(rule: Mapping[str, Any], side: str) -> tuple[Matcher, ...]:
    old = [Matcher(str(label), "=", str(value)) for label, value in (rule.get(f"{side}_match") or {}).items()]
    old += [Matcher(str(label), "=~", str(value)) for label, value in (rule.get(f"{side}_match_re") or {}).items()]
    new = [matcher for text in rule.get(f"{side}_matchers") or () for matcher in parse_matchers(str(text))]
    return (*old, *new)


def _accepted(matchers: Sequence[Matcher], labels: Mapping[str, str]) -> bool:
    return all(matcher.accepts(labels) for matcher in matchers)

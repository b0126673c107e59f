"""The rules that Prometheus has loaded, compared with the shipped ones: nothing that was changed is reported as ok."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from healer.doctor.checks.shipped_rules import HEARTBEAT_LABEL, Rule, rules
from healer.doctor.http import Client
from healer.doctor.result import CheckStatus, Finding
from healer.webhook.payload import HEAL_LABEL
from pgslot.alerting_rules import SHIPPED_BASE
from pgslot.cli.flags import is_loopback
from pgslot.httpclient import HttpError

RUNBOOK_URL = "runbook_url"
MAX_NAMED = 5
"""Alerts that a finding names."""
_LOAD = "Load the output of `pg-slot-exporter rules` in rule_files, and reload Prometheus."


async def check_rules(client: Client, groups: Sequence[dict[str, Any]]) -> list[Finding]:
    """Compare the rules of this Prometheus with the shipped ones. Raises HttpError, KeyError or TypeError."""
    findings = []
    loaded: dict[str, list[dict[str, Any]]] = {}
    intervals: dict[str, list[float]] = {}
    for group in groups:
        for rule in group["rules"]:
            loaded.setdefault(rule["name"], []).append(rule)
            intervals.setdefault(rule["name"], []).append(float(group["interval"]))
    missing = [rule.name for rule in rules() if rule.name not in loaded]
    if missing:
        named = "all" if len(missing) == len(rules()) else ", ".join(missing)
        findings.append(Finding("rules", client.shown, CheckStatus.FAILED, f"not loaded: {named}", _LOAD))
    for rule in rules():
        if rule.name in loaded:
            findings += await _check_rule(client, rule, loaded[rule.name])
    findings += judge_group_intervals(intervals)
    findings += judge_runbook_base(client.shown, loaded, local=is_loopback(client.host))
    if not findings:
        added = sorted(
            {
                label
                for rule in rules()
                for copy in loaded[rule.name]
                for label in (copy.get("labels") or {}).keys() - dict(rule.labels).keys()
            }
        )
        found = f"all {len(rules())} are loaded, as shipped{', with more labels: ' if added else ''}{', '.join(added)}"
        findings.append(Finding("rules", client.shown, CheckStatus.OK, found))
    return findings


def judge_group_intervals(intervals: Mapping[str, Sequence[float]]) -> Iterator[Finding]:
    """Report groups that are evaluated at another interval than shipped; `intervals`: seconds, by rule."""
    differing: dict[tuple[str, float], list[float]] = {}
    for rule in rules():
        if rule.interval_seconds is not None:
            for interval in intervals.get(rule.name, ()):
                if interval != rule.interval_seconds:
                    differing.setdefault((rule.group, rule.interval_seconds), []).append(interval)
    for (group, shipped), found in differing.items():
        later = ": its alerts come later" if max(found) > shipped else ""
        text = f"evaluated every {max(found):g} s, shipped {shipped:g} s{later}"
        advice = f"Set interval: {shipped:g}s in this group, or: {_LOAD}"
        yield Finding("rules", f"group {group}", CheckStatus.WARNING, text, advice)


def judge_runbook_base(shown: str, loaded: Mapping[str, Sequence[dict[str, Any]]], *, local: bool) -> Iterator[Finding]:
    """
    Report runbook links that lead nowhere: to several places, or from another machine to this one.

    `loaded`: the rules in Prometheus, by name. `local`: whether Prometheus runs on this machine.
    """
    links = {
        rule.name: str(copy.get("annotations", {}).get(RUNBOOK_URL, ""))
        for rule in rules()
        if RUNBOOK_URL in dict(rule.annotations)
        for copy in loaded.get(rule.name, ())
    }
    broken = [name for name, link in links.items() if not link.endswith((f"/{name}", f"/{name}.md"))]
    advice = (
        "Load the output of `pg-slot-exporter rules --runbook-base=URL`, with the URL of your exporter's /runbooks."
    )
    if broken:
        found = f"the {RUNBOOK_URL} of {_first(broken)} does not lead to its runbook"
        yield Finding("rules", shown, CheckStatus.WARNING, found, advice)
    bases = dict.fromkeys(link.rpartition("/")[0] for name, link in links.items() if name not in broken)
    if len(bases) > 1:
        found = f"runbook links have several base URLs: {', '.join(bases)}"
        yield Finding("rules", shown, CheckStatus.WARNING, found, advice)
    elif list(bases) == [SHIPPED_BASE] and not local:
        found = f"runbook links lead to {SHIPPED_BASE}, which is each reader's own machine"
        yield Finding("rules", shown, CheckStatus.WARNING, found, advice)


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{', '.join(names[:MAX_NAMED])}{more}"


def differences(rule: Rule, loaded: dict[str, Any]) -> Iterator[str]:
    """Return how a loaded rule differs from the shipped one, but for its expression and its runbook's base; pure."""
    for key, name, shipped in (
        ("duration", "for", rule.hold_seconds),
        ("keepFiringFor", "keep_firing_for", rule.keep_firing_seconds),
    ):
        seconds = float(loaded.get(key) or 0.0)
        if seconds != shipped:
            yield f"{name} {seconds:g} s, shipped {shipped:g} s"
    for kind, shipped_texts in (("labels", rule.labels), ("annotations", rule.annotations)):
        texts = loaded.get(kind) or {}
        for label, value in shipped_texts:
            if label != RUNBOOK_URL and str(texts.get(label, "")).split() != value.split():
                shown = f"{kind.removesuffix('s')} {label}"
                short = kind == "annotations" and label in texts
                differs = f"{shown} differs from the shipped rule"
                yield differs if short else f"{shown} {texts.get(label)!r}, shipped {value!r}"


async def _check_rule(client: Client, rule: Rule, loaded: Sequence[dict[str, Any]]) -> list[Finding]:
    """Return what is wrong with a rule, if anything. Prometheus may have several of its name; all must be right."""
    for copy in loaded:
        if copy.get("health") == "err":
            found = f"cannot be evaluated: {copy.get('lastError')}"
            return [Finding("rules", rule.name, CheckStatus.FAILED, found, _LOAD)]
    for label in (HEAL_LABEL, HEARTBEAT_LABEL):
        wanted = dict(rule.labels).get(label)
        values = {copy.get("labels", {}).get(label) for copy in loaded}
        if wanted is not None and values != {wanted}:
            text = f'expected the label {label}="{wanted}", found {", ".join(map(repr, values))}'
            found = f"{text}: its alerts do not reach the healer"
            return [Finding("rules", rule.name, CheckStatus.FAILED, found, _LOAD)]
    for copy in loaded:
        changed = list(differences(rule, copy))
        if not await _is_same(client, rule.expression, copy["query"]):
            changed.insert(0, f"the expression differs from the shipped rule: {copy['query']}")
        if changed:
            advice = f"Fine if it was changed on purpose. {_LOAD}"
            return [Finding("rules", rule.name, CheckStatus.WARNING, "; ".join(changed), advice)]
    return []


async def _is_same(client: Client, shipped: str, loaded: str) -> bool:
    """Compare two expressions as this Prometheus formats them, or but for white space if it cannot."""
    if "".join(shipped.split()) == "".join(loaded.split()):
        return True
    try:
        first, second = [await client.get_json("/api/v1/format_query", {"query": text}) for text in (shipped, loaded)]
    except HttpError:
        return False
    return bool(first["data"] == second["data"])

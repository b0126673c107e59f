"""
Makes Grafana's alert rules, and the recording rules that they need, from alerts/pgslot.rules.yml.

`python -m dashboards.alerting`, and `--check` to see whether they are in step. In Prometheus each series that comes of
an expression is an alert, whatever its value. So each rule has three steps, those of Grafana's own import of rules from
Prometheus: the query; 1 for each series of its answer; a threshold on that.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from dashboards.files import put

RULES = Path(__file__).parents[1] / "alerts/pgslot.rules.yml"
ALERTING = Path("dashboards/provisioning/alerting/pgslot-rules.yml")
RECORDING = Path("alerts/pgslot-recording.rules.yml")

FOLDER = "pg-slot-healer"
"""Grafana gives its name to each alert, as the label grafana_folder."""
DATA_SOURCE = {"type": "prometheus", "uid": "prometheus"}
EXPRESSION = {"type": "__expr__", "uid": "__expr__"}
QUERY, ANY, FIRES = "query", "any", "fires"

SHORTEST_INTERVAL = "10s"
"""Grafana evaluates no rule more often, unless it is built otherwise."""
INTERVAL = "30s"
"""Of groups that go by Prometheus' own interval; Grafana wants a multiple of 10 s."""

HEAD = """\
# Made from alerts/pgslot.rules.yml by "make dashboards": change that file.
"""
ALERTING_HEAD = f"""\
{HEAD}#
# For Grafana 12 and newer, in place of Prometheus' alerts: /etc/grafana/provisioning/alerting/. Prometheus still has to
# load the recording rules ({RECORDING.name}). The data source is that of ../datasources; for another one:
#   sed -i 's/[uU]id: prometheus$/&-of-yours/'
# Where your runbooks are: sed -i 's#http://localhost:9877/runbooks#https://pgslot.example.com/runbooks#'
"""

_LOOKUP = re.compile(r"\{\{(?:(?!\}\}).)*\|\s*query\b")
_SENTENCE = re.compile(r"(?s)(.*?)(?:\.|\s*(?:\(\w*)?:|\s*\()\s*")
"""A text that ends where a lookup begins: with a full stop, or with a colon or parenthesis that can go with it."""
_SENTENCES = re.compile(r"(?s)(.*)\.\s.*")
_BLOCK, _END = re.compile(r"\{\{-?\s*(?:if|range|with)\b"), re.compile(r"\{\{-?\s*end\b")
_ELSEWHERE = " The cluster's dashboard shows who and why; the runbook shows what to do."
_NAMED = (
    "{{ if .Labels.slot_name }}Slot {{ .Labels.slot_name }}, {{ end }}"
    "{{ if .Labels.cluster }}cluster {{ .Labels.cluster }}{{ end }}"
    "{{ if .Labels.node }}, node {{ .Labels.node }}{{ end }}"
    "{{ if .Labels.instance }}{{ .Labels.instance }} (job {{ .Labels.job }}){{ end }}."
)


def description(text: str) -> str:
    """
    Return a description as Grafana's template, which can ask Prometheus no further questions: it ends before the first.

    It has no dollar sign: in a provisioned file that would be a variable of the environment. Grafana has a text in
    `$value`, and the number in `.Values`.
    """
    lookup = _LOOKUP.search(text)
    if lookup is not None:
        before = text[: lookup.start()]
        sentences = _SENTENCE.fullmatch(before) or _SENTENCES.fullmatch(before)
        text = (_closed(f"{sentences[1]}.") if sentences is not None else _NAMED) + _ELSEWHERE
    return text.replace("$labels", ".Labels").replace("$value", f".Values.{QUERY}.Value")


def _closed(text: str) -> str:
    """Return the beginning of a template with an end for each block that is still open."""
    still_open = len(_BLOCK.findall(text)) - len(_END.findall(text))
    return text + "{{ end }}" * still_open


def alert(rule: dict[str, Any]) -> dict[str, Any]:
    """Return a rule of Grafana's for one of Prometheus'."""
    name = rule["alert"]
    annotations = rule["annotations"] | {
        text: description(rule["annotations"][text]) for text in ("summary", "description")
    }
    found = {
        "uid": name,
        "title": name,
        "condition": FIRES,
        "data": [
            _step(QUERY, DATA_SOURCE, {"expr": rule["expr"].strip(), "instant": True, "range": False}),
            _step(
                *(ANY, EXPRESSION),
                {"type": "math", "expression": f"is_number(${QUERY}) || is_nan(${QUERY}) || is_inf(${QUERY})"},
            ),
            _step(
                *(FIRES, EXPRESSION),
                {
                    "type": "threshold",
                    "expression": ANY,
                    "conditions": [{"evaluator": {"type": "gt", "params": [0]}}],
                },
            ),
        ],
        # No series is what the rules give while all is well.
        "noDataState": "OK",
        # People hear of it as DatasourceError, with all labels of the rule; the healer does not act on that.
        "execErrState": "Error",
        "for": rule.get("for", "0s"),
        "missing_series_evals_to_resolve": 1,
        "annotations": annotations,
        "labels": rule["labels"],
    }
    return found | ({"keepFiringFor": rule["keep_firing_for"]} if "keep_firing_for" in rule else {})


def _step(name: str, source: dict[str, str], model: dict[str, Any]) -> dict[str, Any]:
    return {
        "refId": name,
        "relativeTimeRange": {"from": 600, "to": 0},
        "datasourceUid": source["uid"],
        "model": {"refId": name, "datasource": source} | model,
    }


def groups(rules: dict[str, Any]) -> list[dict[str, Any]]:
    """Return Grafana's groups: those of Prometheus, without recording rules."""
    return [
        {
            "orgId": 1,
            "name": group["name"],
            "folder": FOLDER,
            "interval": {None: INTERVAL, "2s": SHORTEST_INTERVAL}.get(group.get("interval"), group.get("interval")),
            "rules": [alert(rule) for rule in group["rules"] if "alert" in rule],
        }
        for group in rules["groups"]
    ]


def files(rules: dict[str, Any]) -> dict[Path, str]:
    """Return what is made, by path."""
    recorded = [rule for group in rules["groups"] for rule in group["rules"] if "record" in rule]
    recording = {"groups": [{"name": "pgslot-recording", "rules": recorded}]}
    return {
        ALERTING: ALERTING_HEAD + _dump({"apiVersion": 1, "groups": groups(rules)}),
        RECORDING: f"{HEAD}# For Prometheus, where Grafana has the alerts ({ALERTING}).\n" + _dump(recording),
    }


class _Dumper(yaml.SafeDumper):
    """Repeats what is repeated, and writes what has several lines as such."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _dump(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=118, allow_unicode=True)


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description=f"Makes {ALERTING} and {RECORDING}.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of step")
    parser.add_argument("folder", nargs="?", type=Path, default=RULES.parents[1], help="default: that of this project")
    options = parser.parse_args()
    made = files(yaml.safe_load(RULES.read_text("utf-8")))
    return put({options.folder / name: text for name, text in made.items()}, RULES.name, check=options.check)


if __name__ == "__main__":
    sys.exit(main())

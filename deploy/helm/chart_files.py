"""
The generated files of the Helm chart: what it has in common with deploy/kubernetes, the rules and the dashboards.

The templates take security settings, probes, mounts, scrapes and routes from files/shipped.yaml, so that the chart
cannot differ in them from the manifests.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
DASHBOARDS = ROOT / "dashboards" / "json"
RULES = ROOT / "alerts" / "pgslot.rules.yml"
CHART = Path(__file__).parent / "pg-slot-healer"
PROGRAMS = {"exporter": "pg-slot-exporter", "healer": "pg-slot-healer"}
"""Components of the chart, and the names of the manifests' objects."""

_SHIPPED_HEAD = """\
# Made from deploy/kubernetes by "make kubernetes": change the manifests. The templates read what must not differ here.
"""
_RULES_HEAD = """\
# Made from alerts/pgslot.rules.yml by "make kubernetes": change that file.
"""

Manifest = dict[str, Any]


def chart_files(chart: Path = CHART) -> dict[Path, str]:
    """Return the text of each generated file of the chart in this folder."""
    files = {
        chart / "files/shipped.yaml": _SHIPPED_HEAD + yaml.safe_dump(shipped(), sort_keys=True, width=120),
        chart / "files/pgslot.rules.yml": _RULES_HEAD + RULES.read_text("utf-8"),
    }
    for dashboard in sorted(DASHBOARDS.glob("*.json")):
        # Without indentation: a client that notes the last applied object in an annotation has room for 256 KiB there.
        text = json.dumps(json.loads(dashboard.read_text("utf-8")), separators=(",", ":"), sort_keys=True)
        files[chart / "files/dashboards" / dashboard.name] = text + "\n"
    return files


def shipped() -> Mapping[str, Manifest]:
    """Return what the chart takes from the manifests, by component."""
    objects = {
        (manifest["kind"], manifest["metadata"]["name"]): manifest["spec"]
        for manifest in _documents(MANIFESTS.rglob("*.yaml"))
        if "spec" in manifest
    }
    components = {component: _program(objects, name) for component, name in PROGRAMS.items()}
    components["exporter"]["scrapeConfigs"] = {
        "exporter": objects["ScrapeConfig", "pg-slot-exporter"],
        "creations": objects["ScrapeConfig", "pg-slot-creations"],
    }
    components["healer"]["routes"] = {
        "heal": objects["AlertmanagerConfig", "pg-slot-healer"]["route"],
        "heartbeat": objects["AlertmanagerConfig", "pg-slot-healer-heartbeat"]["route"],
    }
    return components


def _program(objects: Mapping[tuple[str, str], Manifest], name: str) -> Manifest:
    deployment = objects["Deployment", name]
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    service = objects["Service", name]
    return {
        "strategy": deployment["strategy"],
        "podSecurityContext": pod["securityContext"],
        "volumes": pod["volumes"],
        "container": {key: value for key, value in container.items() if key not in {"name", "image", "resources"}},
        "service": {key: value for key, value in service.items() if key not in {"selector", "ports"}},
        "endpoints": objects["ServiceMonitor", name]["endpoints"],
    }


def _documents(files: Iterable[Path]) -> Iterable[Manifest]:
    for file in files:
        yield from yaml.safe_load_all(file.read_text("utf-8"))

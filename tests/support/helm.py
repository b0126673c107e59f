"""The Helm chart, rendered by helm itself; each rendering is made once."""

import subprocess
from functools import cache
from pathlib import Path

import yaml

from tests.support.manifests import Manifest
from tests.support.paths import ROOT

HELM = ROOT / ".venv/helm/helm"
"""What `tests/support/install/install.sh helm` installs."""
CHART = ROOT / "deploy/helm/pg-slot-healer"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
RELEASE = "pg-slot-healer"
NAMESPACE = "pgslot"
FEWEST = ("--values", str(CHART / "ci/extra-manifests-values.yaml"))
"""Arguments with a configuration and little else."""


def values_file(name: str) -> Path:
    [file] = [file for file in VALUES if file.name == f"{name}-values.yaml"]
    return file


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HELM, *arguments], check=False, capture_output=True, text=True, timeout=120)


def template(*arguments: str | Path, chart: Path = CHART) -> subprocess.CompletedProcess[str]:
    return helm("template", RELEASE, chart, "--namespace", NAMESPACE, "--kube-version", "1.33.0", *arguments)


@cache
def rendered(name: str) -> list[Manifest]:
    """Return the objects that the chart makes of the values file ci/NAME-values.yaml."""
    return objects(template("--values", values_file(name)))


def objects(done: subprocess.CompletedProcess[str]) -> list[Manifest]:
    """Return the objects of a rendering, which must have succeeded."""
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.load_all(done.stdout, yaml.CSafeLoader) if document]


def refusal(*arguments: str | Path) -> str:
    """Return helm's message about values that the chart refuses."""
    done = template(*arguments)
    assert done.returncode == 1
    return done.stderr


def of_kind(kind: str, manifests: list[Manifest]) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def one(kind: str, name: str, manifests: list[Manifest]) -> Manifest:
    [manifest] = [manifest for manifest in of_kind(kind, manifests) if manifest["metadata"]["name"] == name]
    return manifest


def pod_of(deployment: Manifest) -> Manifest:
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec


def main_container(deployment: Manifest) -> Manifest:
    """Return the container that runs one of the programs; others are the user's."""
    container: Manifest = pod_of(deployment)["containers"][0]
    return container

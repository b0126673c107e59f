"""The software bill of materials of a release: CycloneDX 1.6, from the pinned requirements of the image."""

import re
import tomllib
import uuid
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "pg-slot-healer"


def sbom(requirements: str, direct: Sequence[str], version: str) -> dict[str, Any]:
    """
    Return the document; the same input makes the same document, so it has no time.

    `requirements`: the text of a requirements file with `==` alone. `direct`: what the project itself depends on. What
    else depends on what is read from the packages of this environment; one that is not here depends on nothing.
    """
    pinned = dict(_pinned(requirements))
    root = f"pkg:pypi/{PROJECT}@{version}"
    references = {name: f"pkg:pypi/{name}@{pin}" for name, (pin, _) in pinned.items()}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, root + requirements)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": PROJECT,
                "version": version,
                "purl": root,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": [_component(name, pin, marker, references[name]) for name, (pin, marker) in pinned.items()],
        "dependencies": [
            {"ref": root, "dependsOn": _references(direct, references)},
            *({"ref": reference, "dependsOn": _needed(name, references)} for name, reference in references.items()),
        ],
    }


def _pinned(requirements: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield each package, its version, and on which platforms and Pythons it is wanted; empty: on all."""
    for line in re.sub(r"\\\n", " ", requirements).splitlines():
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line.split(" --hash=")[0])
            [specifier] = requirement.specifier
            yield canonicalize_name(requirement.name), (specifier.version, str(requirement.marker or ""))


def _component(name: str, version: str, marker: str, reference: str) -> dict[str, Any]:
    component = {"type": "library", "bom-ref": reference, "name": name, "version": version, "purl": reference}
    return component | ({"properties": [{"name": "python:marker", "value": marker}]} if marker else {})


def _needed(name: str, references: dict[str, str]) -> list[str]:
    """Return the references of what a package of this environment depends on, extras included."""
    try:
        return _references(distribution(name).requires or [], references)
    except PackageNotFoundError:
        return []


def _references(requirements: Sequence[str], references: dict[str, str]) -> list[str]:
    """Return the references of the pinned packages, also of those that only an extra or another platform needs."""
    names = {canonicalize_name(Requirement(text).name) for text in requirements}
    return sorted(references[name] for name in names if name in references)


def read_direct(root: Path) -> list[str]:
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    return [str(requirement) for requirement in project["dependencies"]]


def read_requirements(root: Path) -> str:
    return (root / "deploy/docker/requirements.txt").read_text("utf-8")

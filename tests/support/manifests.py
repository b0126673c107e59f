"""The manifests of deploy/kubernetes, their schemas, and their files laid out as in the containers."""

import importlib
import warnings
from pathlib import Path
from typing import Any

from tests.support.documents import read_yaml_documents
from tests.support.paths import ROOT

FOLDER = ROOT / "deploy/kubernetes"
OPERATOR = FOLDER / "operator"
FILES = sorted(FOLDER.rglob("*.yaml"))

Manifest = dict[str, Any]


def documents(file: Path) -> list[Manifest]:
    return read_yaml_documents(file)


def is_custom(manifest: Manifest) -> bool:
    """Return whether the object is prometheus-operator's, and not Kubernetes' own."""
    return "monitoring.coreos.com" in manifest["apiVersion"]


def validate_by_crd(manifest: Manifest) -> None:
    """Raise ValueError for a value that the CRD forbids, and for an unknown field."""
    _, _, version = manifest["apiVersion"].partition("/")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generated models shadow attributes of their base class
        models = importlib.import_module(f"cloudcoil.models.prometheus_operator.{version}")
    model = getattr(models, manifest["kind"]).model_validate(manifest)
    parsed = model.model_dump(by_alias=True, exclude_unset=True, mode="json")
    # The models silently drop unknown fields, so the result is compared with the input.
    if parsed["spec"] != manifest["spec"]:
        raise ValueError(f"not all fields are known:\nfound {manifest['spec']}\nknown {parsed['spec']}")


MANIFESTS = [
    (file.relative_to(FOLDER), document)
    for file in FILES
    for document in documents(file)
    if document["kind"] != "Kustomization"
]


def find(kind: str, name: str) -> Manifest:
    [manifest] = [
        manifest for _, manifest in MANIFESTS if (manifest["kind"], manifest["metadata"]["name"]) == (kind, name)
    ]
    return manifest


def pod(program: str) -> Manifest:
    spec: Manifest = find("Deployment", program)["spec"]["template"]["spec"]
    return spec


def container(program: str) -> Manifest:
    [spec] = pod(program)["containers"]
    assert isinstance(spec, dict)
    return spec


def mounted(program: str, tmp_path: Path, secrets: dict[str, dict[str, str]]) -> Path:
    """
    Lay out the files as the program's container has them, and return its configuration file.

    Absolute paths in the configuration are moved below `tmp_path` as well.
    """
    sources: dict[str, dict[str, str]] = {}
    for volume in pod(program)["volumes"]:
        if "configMap" in volume:
            sources[volume["name"]] = find("ConfigMap", volume["configMap"]["name"])["data"]
        else:
            sources[volume["name"]] = secrets[volume["secret"]["secretName"]]
            assert volume["secret"]["defaultMode"] == 0o440
    for mount in container(program)["volumeMounts"]:
        folder = tmp_path / mount["mountPath"].lstrip("/")
        folder.mkdir(parents=True)
        for name, text in sources[mount["name"]].items():
            (folder / name).write_text(text.replace("/run/secrets", f"{tmp_path}/run/secrets"), "utf-8")
    return tmp_path / "etc/pgslot/pgslot.yml"


EXAMPLES: dict[str, dict[str, str]] = {
    document["metadata"]["name"]: document["stringData"] for document in documents(FOLDER / "secrets.example.yaml")
}


def filled(conninfo: str = "host=127.0.0.1") -> dict[str, dict[str, str]]:
    """Return the example Secrets with usable values instead of placeholders."""
    return {
        name: dict.fromkeys(keys, "token" if name == "pgslot-webhook-token" else conninfo)
        for name, keys in EXAMPLES.items()
    }

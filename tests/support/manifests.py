"""The manifests of deploy/kubernetes, and their files laid out as in the containers."""

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

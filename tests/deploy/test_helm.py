"""The Helm chart, rendered by helm: valid for every values file, hardened, and the same as deploy/kubernetes."""

import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

import exporter.cli as exporter_cli
import healer.cli as healer_cli
from pgslot.config.loader import load
from pgslot.config.secrets import check_secrets
from tests.support.helm import (
    CHART,
    NAMESPACE,
    RELEASE,
    VALUES,
    helm,
    main_container,
    objects,
    of_kind,
    one,
    pod_of,
    rendered,
    template,
    values_file,
)
from tests.support.manifests import MANIFESTS, Manifest, filled, is_custom, mounted, validate_by_crd
from tests.support.paths import ROOT

pytestmark = pytest.mark.tools

NAMES = [file.name.removesuffix("-values.yaml") for file in VALUES]
EXPORTER, HEALER = f"{RELEASE}-exporter", RELEASE
"""Names of the chart's objects; deploy/kubernetes calls them pg-slot-exporter and pg-slot-healer."""
PARSERS = {"pg-slot-exporter": exporter_cli.parser, "pg-slot-healer": healer_cli.parser}

for_each_values_file = pytest.mark.parametrize("name", NAMES)


@for_each_values_file
def test_lint_accepts_chart(name: str) -> None:
    done = helm("lint", "--strict", CHART, "--values", values_file(name))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.xdist_group(str(ROOT / "tests/deploy/test_kubernetes.py"))  # importing the CRDs takes 5 s of CPU
def test_every_object_is_valid_by_its_schema() -> None:
    """By Kubernetes' of the oldest and newest version that test_kubernetes.py has, and prometheus-operator's."""
    seen: set[str] = set()
    for name in NAMES:
        for manifest in rendered(name):
            text = json.dumps(manifest, sort_keys=True)
            if text in seen:
                continue
            seen.add(text)
            if is_custom(manifest):
                validate_by_crd(manifest)
            else:
                for version in ("1.29", "1.37"):
                    kubernetes_validate.validate(manifest, version, strict=True)
    kinds = {json.loads(text)["kind"] for text in seen}
    assert {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor", "PodMonitor"} <= kinds
    assert {"PrometheusRule", "AlertmanagerConfig", "ScrapeConfig"} <= kinds


@for_each_values_file
def test_no_object_is_there_twice_and_each_names_its_namespace(name: str) -> None:
    own = [manifest for manifest in rendered(name) if "helm.sh/chart" in manifest["metadata"].get("labels", {})]
    identities = [
        (manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"]) for manifest in own
    ]
    assert len(identities) == len(set(identities))


@for_each_values_file
def test_pods_are_hardened(name: str) -> None:
    for deployment in of_kind("Deployment", rendered(name)):
        pod, container = pod_of(deployment), main_container(deployment)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        security = container["securityContext"]
        assert (security["readOnlyRootFilesystem"], security["allowPrivilegeEscalation"]) == (True, False)
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert all(mount["readOnly"] for mount in container["volumeMounts"])
        assert container["resources"]["limits"]["memory"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)


@for_each_values_file
def test_only_pods_that_ask_for_it_get_a_service_account_token(name: str) -> None:
    asked = name == "pods"
    found = rendered(name)
    assert {pod_of(deployment)["automountServiceAccountToken"] for deployment in of_kind("Deployment", found)} == {
        asked
    }
    assert all(account["automountServiceAccountToken"] is asked for account in of_kind("ServiceAccount", found))


def test_user_of_pod_can_be_left_to_the_cluster() -> None:
    for deployment in of_kind("Deployment", rendered("pods")):
        assert set(pod_of(deployment)["securityContext"]) == {"runAsNonRoot", "seccompProfile"}


@for_each_values_file
def test_mounts_and_probes_refer_to_what_the_pod_has(name: str) -> None:
    for deployment in of_kind("Deployment", rendered(name)):
        pod, container = pod_of(deployment), main_container(deployment)
        volumes = [volume["name"] for volume in pod["volumes"]]
        assert sorted(volumes) == sorted(mount["name"] for mount in container["volumeMounts"])
        for probe in (container["livenessProbe"], container["readinessProbe"]):
            [handler] = [probe[key] for key in ("httpGet", "tcpSocket") if key in probe]
            assert handler["port"] in [port["name"] for port in container["ports"]]


def comparable(value: Any) -> Any:
    """Return a part of an object without what has to differ: names, and the labels that select."""
    if isinstance(value, dict):
        if "app.kubernetes.io/name" in value:
            component = value.get("app.kubernetes.io/component", value["app.kubernetes.io/name"].rpartition("-")[2])
            return {"program": component}
        return {key: comparable(part) for key, part in value.items()}
    if isinstance(value, list):
        return [comparable(part) for part in value]
    if isinstance(value, str):
        return re.sub(rf"(^|/){EXPORTER}\b", r"\1pg-slot-exporter", value)
    return value


def spec_without_additions(manifest: Manifest) -> Manifest:
    """Return the object's spec without what the chart says in words and the manifests leave to Kubernetes' defaults."""
    spec = json.loads(json.dumps(manifest.get("spec", {})))
    if manifest["kind"] == "Service":
        assert spec.pop("type", "ClusterIP") == "ClusterIP"
    if manifest["kind"] == "Deployment":
        del spec["template"]["metadata"]
        for container in spec["template"]["spec"]["containers"]:
            assert container.pop("imagePullPolicy", "IfNotPresent") == "IfNotPresent"
    result = comparable(spec)
    assert isinstance(result, dict)
    return result


def test_chart_gives_the_same_as_the_manifests() -> None:
    # One way to scrape excludes the other, so two values files give all objects.
    found = [*rendered("same-as-manifests"), *of_kind("ScrapeConfig", rendered("scrapeconfig"))]
    names = {"pg-slot-exporter": EXPORTER, "pg-slot-creations": f"{RELEASE}-creations"}
    compared = 0
    for _, manifest in MANIFESTS:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        if kind in {"Secret", "ConfigMap"}:
            continue
        ours = one(kind, names.get(name, name), found)
        assert spec_without_additions(ours) == spec_without_additions(manifest), (kind, name)
        assert ours["apiVersion"] == manifest["apiVersion"]
        compared += 1
    assert compared == len([manifest for manifest in found if manifest["kind"] != "ConfigMap"])


def selectors(manifest: Manifest) -> list[dict[str, str]]:
    """Return the labels by which an object selects pods or Services."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Service":
        return [spec["selector"]]
    return [spec[key]["matchLabels"] for key in ("selector", "podSelector") if key in spec]


@for_each_values_file
def test_objects_select_the_pods_of_their_component_alone(name: str) -> None:
    chart = "slots" if name == "pods" else "pg-slot-healer"
    labels = {"app.kubernetes.io/name": chart, "app.kubernetes.io/instance": RELEASE}
    found = rendered(name)
    pods = {
        deployment["metadata"]["labels"]["app.kubernetes.io/component"]: deployment["spec"]["template"]["metadata"]
        for deployment in of_kind("Deployment", found)
    }
    for manifest in found:
        for selector in selectors(manifest):
            component = manifest["metadata"]["labels"]["app.kubernetes.io/component"]
            # Nothing else: what changes from version to version must not be in the selector of a Deployment.
            assert selector == labels | {"app.kubernetes.io/component": component}
            assert selector.items() <= pods[component]["labels"].items()
            services = [service["metadata"]["labels"] for service in of_kind("Service", found)]
            assert sum(selector.items() <= service.items() for service in services) == 1


def test_upgrade_changes_neither_selectors_nor_labels_of_pods(newer_chart: Path) -> None:
    file = values_file("pods")
    old = of_kind("Deployment", rendered("pods"))
    new = of_kind("Deployment", objects(template("--values", file, "--set", "image.tag=9.9.9", chart=newer_chart)))
    for before, after in zip(old, new, strict=True):
        assert after["metadata"]["labels"]["app.kubernetes.io/version"] == "9.9.9"
        assert after["spec"]["selector"] == before["spec"]["selector"]
        assert after["spec"]["template"]["metadata"] == before["spec"]["template"]["metadata"]


@pytest.mark.parametrize(
    ("name", "absent", "present"), [("exporter-only", "healer", EXPORTER), ("healer-only", "exporter", HEALER)]
)
def test_component_can_be_switched_off(name: str, absent: str, present: str) -> None:
    found = rendered(name)
    assert not [
        manifest for manifest in found if manifest["metadata"]["labels"].get("app.kubernetes.io/component") == absent
    ]
    assert one("Deployment", present, found)


@pytest.mark.parametrize("name", ["same-as-manifests", "pods", "tls"])
def test_arguments_are_accepted_by_program(name: str) -> None:
    for deployment in of_kind("Deployment", rendered(name)):
        container = main_container(deployment)
        options = PARSERS[container["command"][0]]().parse_args(container["args"])
        assert options.listen == f":{container['ports'][0]['containerPort']}"
        [config] = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "config"]
        assert options.config_file == Path(config) / "pgslot.yml"


def test_configuration_loads_with_the_mounted_secrets(tmp_path: Path) -> None:
    """Mounts are those of the manifests, by test_chart_gives_the_same_as_the_manifests."""
    [configuration] = of_kind("ConfigMap", rendered("same-as-manifests"))
    file = mounted("pg-slot-healer", tmp_path, filled())
    shipped = load(file)
    file.write_text(configuration["data"]["pgslot.yml"].replace("/run/secrets", f"{tmp_path}/run/secrets"), "utf-8")
    config = load(file)
    check_secrets(config, healer=True)
    assert config == shipped


@for_each_values_file
def test_chart_makes_no_secret_and_no_configuration_with_a_password(name: str) -> None:
    found = rendered(name)
    assert of_kind("Secret", found) == []
    for configuration in of_kind("ConfigMap", found):
        assert "password=" not in configuration["data"].get("pgslot.yml", "")


def test_release_in_another_namespace_and_name_refers_to_itself() -> None:
    found = rendered("kube-prometheus-stack")
    for monitor in of_kind("ServiceMonitor", found):
        assert monitor["metadata"]["namespace"] == "monitoring"
        assert monitor["spec"]["namespaceSelector"] == {"matchNames": [NAMESPACE]}
        assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    for manifest in found:
        if manifest["kind"] in {"Deployment", "Service", "AlertmanagerConfig"}:
            assert manifest["metadata"]["namespace"] == NAMESPACE

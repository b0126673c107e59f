"""What each value of the Helm chart does, and which values it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import read_yaml
from tests.support.helm import (
    FEWEST,
    NAMESPACE,
    RELEASE,
    main_container,
    objects,
    of_kind,
    one,
    pod_of,
    refusal,
    rendered,
    template,
)
from tests.support.manifests import Manifest
from tests.support.paths import ROOT

pytestmark = pytest.mark.tools

EXPORTER, HEALER = f"{RELEASE}-exporter", RELEASE
RUNBOOKS = "https://pgslot.example.com/runbooks"


def admits(policy: Manifest, namespace: str, port: int) -> bool:
    """Return whether pods of a namespace may connect to this port of the pods that the policy selects."""
    return any(
        port in [entry["port"] for entry in rule["ports"]]
        and any(
            peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": namespace}
            for peer in rule["from"]
        )
        for rule in policy["spec"]["ingress"]
    )


@pytest.mark.parametrize(
    ("name", "namespaces"), [("same-as-manifests", ["monitoring"]), ("network", ["prometheus", "alertmanager"])]
)
def test_network_policies_let_scrapes_and_webhooks_in_and_nobody_else(name: str, namespaces: list[str]) -> None:
    found = rendered(name)
    for program, others in ((EXPORTER, HEALER), (HEALER, EXPORTER)):
        policy = one("NetworkPolicy", program, found)
        [port] = main_container(one("Deployment", program, found))["ports"]
        [service] = one("Service", program, found)["spec"]["ports"]
        # The Service's port is another one in network-values.yaml; a policy is about the pod's.
        assert service["targetPort"] == port["name"]
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        [other] = main_container(one("Deployment", others, found))["ports"]
        for namespace in namespaces:
            assert admits(policy, namespace, port["containerPort"])
            assert not admits(policy, namespace, other["containerPort"])
        assert not admits(policy, "default", port["containerPort"])
    for config in of_kind("AlertmanagerConfig", found):
        [webhook] = config["spec"]["receivers"][0]["webhookConfigs"]
        [service] = one("Service", HEALER, found)["spec"]["ports"]
        assert webhook["url"] == f"http://{HEALER}.{NAMESPACE}.svc:{service['port']}/alerts"


def test_network_policies_let_programs_reach_servers_names_and_alertmanager() -> None:
    found = rendered("network")
    servers = {"ports": [{"port": 5433}], "to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]}
    for program, alertmanager in ((EXPORTER, False), (HEALER, True)):
        policy = one("NetworkPolicy", program, found)
        egress = policy["spec"]["egress"]
        assert servers in egress
        assert [rule["to"] for rule in egress if {"port": 53, "protocol": "UDP"} in rule["ports"]] == [
            [{"ipBlock": {"cidr": "169.254.20.10/32"}}]
        ]
        ports = [entry["port"] for rule in egress for entry in rule["ports"]]
        assert (9094 in ports) is alertmanager
        assert 9090 in ports
        assert admits(policy, "ingress-nginx", 9877)


def test_alerts_can_be_left_out_and_link_to_your_runbooks() -> None:
    groups = read_yaml(ROOT / "alerts/pgslot.rules.yml")["groups"]
    left_out = {"PgSlotNoWalLimit", "PgSlotArchiverFailing"}
    expected = json.loads(json.dumps(groups).replace("http://localhost:9877/runbooks/", f"{RUNBOOKS}/"))
    for group in expected:
        group["rules"] = [rule for rule in group["rules"] if rule.get("alert") not in left_out]
    [rule] = of_kind("PrometheusRule", rendered("kube-prometheus-stack"))
    assert rule["spec"]["groups"] == expected
    assert rule["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_dashboards_are_labelled_for_grafanas_sidecar_and_link_to_your_runbooks() -> None:
    found = [
        manifest
        for manifest in of_kind("ConfigMap", rendered("kube-prometheus-stack"))
        if manifest["metadata"]["labels"].get("grafana_dashboard") == "1"
    ]
    files = {name: json.loads(text) for manifest in found for name, text in manifest["data"].items()}
    shipped = {
        file.name: json.loads(file.read_text("utf-8").replace("http://localhost:9877/runbooks", RUNBOOKS))
        for file in (ROOT / "dashboards/json").glob("*.json")
    }
    assert files == shipped
    for manifest in found:
        assert manifest["metadata"]["annotations"] == {"grafana_folder": "PostgreSQL"}
        # What kubectl apply notes in an annotation, which holds 256 KiB.
        assert len(json.dumps(manifest)) < 200 * 2**10


def test_pod_monitors_scrape_as_service_monitors_do() -> None:
    found = rendered("podmonitor")
    assert of_kind("ServiceMonitor", found) == []
    shipped = rendered("same-as-manifests")
    for program in (EXPORTER, HEALER):
        endpoints = one("PodMonitor", program, found)["spec"]["podMetricsEndpoints"]
        # Without the exporter's second scrape, which that values file switches off.
        assert endpoints == one("ServiceMonitor", program, shipped)["spec"]["endpoints"][:1]


def test_scrapes_take_intervals_and_further_relabelling() -> None:
    [all_, creations] = one("ServiceMonitor", EXPORTER, rendered("kube-prometheus-stack"))["spec"]["endpoints"]
    assert (all_["interval"], all_["scrapeTimeout"]) == ("30s", "20s")
    assert (creations["interval"], creations["scrapeTimeout"]) == ("5s", "4s")
    for endpoint in (all_, creations):
        assert endpoint["relabelings"][-1] == {"targetLabel": "region", "replacement": "north"}
        assert {"targetLabel": "instance", "replacement": EXPORTER} in endpoint["relabelings"]
        assert endpoint["metricRelabelings"]
        assert endpoint["honorLabels"] is True


def test_existing_objects_are_used() -> None:
    found = rendered("existing-objects")
    assert of_kind("ConfigMap", found) == []
    assert of_kind("ServiceAccount", found) == []
    volumes = {volume["name"]: volume for volume in pod_of(one("Deployment", HEALER, found))["volumes"]}
    assert volumes["config"]["configMap"]["name"] == "platform-pgslot"
    names = {name: volume["secret"]["secretName"] for name, volume in volumes.items() if "secret" in volume}
    assert names == {
        "exporter-conninfo": "platform-exporter",
        "healer-conninfo": "platform-healer",
        "webhook-token": "platform-token",
    }
    accounts = [pod_of(one("Deployment", name, found))["serviceAccountName"] for name in (EXPORTER, HEALER)]
    assert accounts == ["platform", "default"]
    for config in of_kind("AlertmanagerConfig", found):
        [webhook] = config["spec"]["receivers"][0]["webhookConfigs"]
        assert webhook["httpConfig"]["authorization"]["credentials"] == {"name": "platform-token", "key": "token"}
    image = main_container(one("Deployment", HEALER, found))["image"]
    assert image.startswith("registry.example.com/platform/pg-slot-healer:")
    assert "@sha256:" in image
    assert pod_of(one("Deployment", HEALER, found))["imagePullSecrets"] == [{"name": "registry"}]


def test_exporter_mounts_no_secret_of_the_healer() -> None:
    for name in ("same-as-manifests", "existing-objects"):
        pod = pod_of(one("Deployment", EXPORTER, rendered(name)))
        assert [volume["name"] for volume in pod["volumes"]] == ["config", "exporter-conninfo"]


def test_tls_reaches_probes_scrapes_and_webhooks() -> None:
    found = rendered("tls")
    exporter, healer = (main_container(one("Deployment", name, found)) for name in (EXPORTER, HEALER))
    for probe in ("livenessProbe", "readinessProbe"):
        assert exporter[probe]["tcpSocket"] == {"port": "http"}
        assert "httpGet" not in exporter[probe]
        assert healer[probe]["httpGet"]["scheme"] == "HTTPS"
    assert "--web.config.file=/run/secrets/pgslot/web/web.yml" in exporter["args"]
    assert "--web.config.file=/run/secrets/pgslot/web/healer.yml" in healer["args"]
    scrapes = of_kind("ScrapeConfig", found)
    assert len(scrapes) == 2
    for scrape in scrapes:
        [discovery] = scrape["spec"]["httpSDConfigs"]
        assert scrape["spec"]["scheme"] == "HTTPS"
        assert discovery["url"] == f"https://{EXPORTER}.{NAMESPACE}.svc:9877/sd"
        for part in (scrape["spec"], discovery):
            assert part["tlsConfig"]["serverName"] == "pgslot.example.com"
            assert part["basicAuth"]["password"] == {"name": "pgslot-scrape", "key": "password"}
    for config in of_kind("AlertmanagerConfig", found):
        [webhook] = config["spec"]["receivers"][0]["webhookConfigs"]
        assert webhook["url"] == f"https://{HEALER}.{NAMESPACE}.svc:443/alerts"
        assert webhook["httpConfig"]["tlsConfig"]


def test_budget_is_for_healers_alone() -> None:
    [budget] = of_kind("PodDisruptionBudget", rendered("same-as-manifests"))
    assert (budget["metadata"]["name"], budget["spec"]["minAvailable"]) == (HEALER, 1)
    [budget] = of_kind("PodDisruptionBudget", rendered("healer-only"))
    assert {key: budget["spec"].get(key) for key in ("minAvailable", "maxUnavailable")} == {
        "minAvailable": None,
        "maxUnavailable": 1,
    }


def test_extra_manifests_are_templates() -> None:
    found = rendered("extra-manifests")
    assert one("ConfigMap", f"{RELEASE}-object", found)["data"] == {"key": "value"}
    assert one("ConfigMap", f"{RELEASE}-text", found)["data"]["version"]


def test_schema_refuses_wrong_values_and_names_them() -> None:
    wrong = {
        "replicas": 2,
        "exporter.replicas": 2,
        "healer.replicas": "two",
        "healer.service.port": 0,
        "healer.serviceMonitor.interval": "soon",
        "healer.podDisruptionBudget.minAvailable": "some",
        "image.pullPolicy": "Sometimes",
        "existingSecrets.webhookToken": "",
        "exporter.podLabels.a": 1,
        "prometheusRule.runbookBaseUrl": "pgslot.example.com",
        "networkPolicy.monitoringNamespace": "monitoring",
    }
    message = refusal(*FEWEST, *(f"--set={key}={value}" for key, value in wrong.items()))
    assert "values don't meet the specifications of the schema" in message
    for line in (
        "- (root): Additional property replicas is not allowed",
        "- exporter: Additional property replicas is not allowed",
        "- healer.replicas: Invalid type. Expected: integer, given: string",
        "- healer.service.port: Must be greater than or equal to 1",
        "- healer.serviceMonitor.interval: Does not match pattern",
        "- healer.podDisruptionBudget.minAvailable: Does not match pattern",
        "- image.pullPolicy: image.pullPolicy must be one of the following",
        "- existingSecrets.webhookToken: Does not match pattern",
        "- exporter.podLabels.a: Invalid type. Expected: string, given: integer",
        "- prometheusRule.runbookBaseUrl: Does not match pattern",
        "- networkPolicy: Additional property monitoringNamespace is not allowed",
    ):
        assert line in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "config.clusters: name at least one cluster with its nodes, or set existingConfigMap"),
        (
            [*FEWEST, "--set=config.clusters.a.nodes.b.conninfo=host=h password=hunter2"],
            "name that file by conninfo_file",
        ),
        (
            [*FEWEST, "--set=config.clusters.a.nodes.b.conninfo=postgresql://u:hunter2@h/db"],
            "name that file by conninfo_file",
        ),
        (
            [*FEWEST, "--set=config.healer.alertmanager_url=http://u:hunter2@alertmanager:9093"],
            "name that file by conninfo_file",
        ),
        (
            [*FEWEST, "--set=exporter.podMonitor.enabled=true,exporter.serviceMonitor.enabled=true"],
            "exporter: enable serviceMonitor or podMonitor, not both",
        ),
        (
            [*FEWEST, "--set=exporter.podMonitor.enabled=true,exporter.scrapeConfig.enabled=true"],
            "exporter: enable podMonitor or scrapeConfig, not both",
        ),
        (
            [*FEWEST, "--set=prometheusRule.enabled=true,prometheusRule.disabledAlerts={PgSlotGone}"],
            "prometheusRule.disabledAlerts: there is no alert PgSlotGone in this version",
        ),
    ],
)
def test_chart_refuses_what_cannot_work(arguments: list[str], message: str) -> None:
    refused = refusal(*arguments)
    assert message in refused
    assert "hunter2" not in refused


def notes(chart: Path, *arguments: str) -> str:
    """Return what helm prints after an installation. `helm template` renders it and throws it away."""
    name = "notes-for-the-test"
    lines = (
        "apiVersion: v1",
        "kind: ConfigMap",
        f"metadata: {{name: {name}}}",
        'data: {notes: {{ include (print .Template.BasePath "/NOTES.txt") . | toJson }}}',
    )
    (chart / "templates/notes-for-the-test.yaml").write_text("\n".join(lines), "utf-8")
    text: Any = one("ConfigMap", name, objects(template(*arguments, chart=chart)))["data"]["notes"]
    return str(text)


def test_notes_say_what_to_check_and_what_is_missing(newer_chart: Path) -> None:
    text = notes(newer_chart, *FEWEST)
    for line in (
        "get secret pgslot-exporter-conninfo pgslot-healer-conninfo pgslot-webhook-token",
        f"rollout status deployment/{EXPORTER}",
        "3. The healer is ready",
        f"exec deployment/{HEALER} -- pg-slot-healer doctor",
        "Nothing scrapes the exporter",
        "The alerts are not installed",
        "Alertmanager does not send the healer anything yet",
        "alertmanager_url is not set",
        "The cluster orders has no section healer",
    ):
        assert line in text
    enabled = ("exporter.serviceMonitor", "healer.alertmanagerConfig", "prometheusRule", "networkPolicy")
    text = notes(newer_chart, *FEWEST, *(f"--set={name}.enabled=true" for name in enabled), "--set=healer.replicas=1")
    for line in (
        "release: NAME OF ITS RELEASE",
        "Set prometheusRule.runbookBaseUrl",
        f'matcher namespace="{NAMESPACE}"',
        "The NetworkPolicy does not let the healer's pods reach Prometheus",
        "minAvailable is not below healer.replicas",
    ):
        assert line in text
    assert "Nothing scrapes" not in text
    text = notes(newer_chart, *FEWEST, "--set=exporter.enabled=false")
    assert "2. The healer is ready" in text
    assert "runbooks" not in text

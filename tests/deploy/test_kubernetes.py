"""deploy/kubernetes: valid by the schemas of Kubernetes and prometheus-operator, and consistent with the programs."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

import exporter.cli as exporter_cli
import healer.cli as healer_main
from pgslot import __version__
from pgslot.cli.errors import ConfigError
from pgslot.cli.exit_codes import BAD_INPUT
from pgslot.config.conninfo import Conninfo
from pgslot.config.loader import load
from pgslot.config.model import Config
from pgslot.config.secrets import check_secrets, webhook_token
from tests.support import in_process
from tests.support.documents import read_yaml
from tests.support.manifests import (
    EXAMPLES,
    FILES,
    FOLDER,
    MANIFESTS,
    OPERATOR,
    Manifest,
    container,
    filled,
    find,
    is_custom,
    mounted,
    pod,
    validate_by_crd,
)
from tests.support.paths import ROOT

VERSIONS = ["1.29", "1.33", "1.37"]
PORTS = {"pg-slot-exporter": 9877, "pg-slot-healer": 9878}
JOBS = {"pg-slot-exporter": "pgslot-exporter", "pg-slot-healer": "pgslot-healer"}
PARSERS = {"pg-slot-exporter": exporter_cli.parser, "pg-slot-healer": healer_main.parser}
CORE = [(file, manifest) for file, manifest in MANIFESTS if not is_custom(manifest)]
CUSTOM = [(file, manifest) for file, manifest in MANIFESTS if is_custom(manifest)]


def named(entry: object) -> str | None:
    return f"{entry['kind']}-{entry['metadata']['name']}" if isinstance(entry, dict) else None


for_each_program = pytest.mark.parametrize("program", PORTS)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("file", "manifest"), CORE, ids=named)
def test_manifest_is_valid_by_kubernetes_schema(file: Path, manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)
    assert file.suffix == ".yaml"


def test_kubernetes_schema_rejects_unknown_field() -> None:
    """The test above can fail."""
    manifest = find("Deployment", "pg-slot-healer") | {"spec": find("Deployment", "pg-slot-healer")["spec"] | {"x": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


@pytest.mark.parametrize(("file", "manifest"), CUSTOM, ids=named)
def test_manifest_is_valid_by_prometheus_operator_schema(file: Path, manifest: Manifest) -> None:
    validate_by_crd(manifest)
    assert file.parts[0] == "operator"


@pytest.mark.parametrize("endpoint", [{"interval": "soon"}, {"scheme": "ftp"}, {"intervall": "15s"}])
def test_prometheus_operator_schema_rejects_invalid_endpoint(endpoint: Manifest) -> None:
    manifest = find("ServiceMonitor", "pg-slot-healer")
    spec = manifest["spec"] | {"endpoints": [manifest["spec"]["endpoints"][0] | endpoint]}
    with pytest.raises(ValueError, match=r"interval|scheme"):
        validate_by_crd(manifest | {"spec": spec})


def test_manifests_do_not_set_a_namespace() -> None:
    assert [named(manifest) for _, manifest in MANIFESTS if "namespace" in manifest["metadata"]] == []
    text = "".join(file.read_text("utf-8") for file in FILES)
    assert set(re.findall(r"\.(\w+)\.svc", text)) == {"pgslot", "monitoring"}


def test_kustomization_applies_every_file_except_examples_and_alternatives() -> None:
    for folder, left_out in ((FOLDER, {"secrets.example.yaml"}), (OPERATOR, {"scrapeconfig.yaml"})):
        kustomization = read_yaml(folder / "kustomization.yaml")
        files = {file.name for file in folder.glob("*.yaml")} - {"kustomization.yaml"}
        assert set(kustomization["resources"]) == files - left_out


GENERATOR = [sys.executable, "-m", "deploy.kubernetes.generate"]


def test_prometheus_rule_matches_shipped_rules() -> None:
    rules = read_yaml(ROOT / "alerts/pgslot.rules.yml")
    assert find("PrometheusRule", "pg-slot-healer")["spec"] == rules


def test_generated_files_are_in_step_with_their_sources() -> None:
    """The rules, and what the Helm chart has in common with the manifests."""
    done = subprocess.run([*GENERATOR, "--check"], check=False, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_generator_check_fails_for_outdated_file(tmp_path: Path) -> None:
    for command in (GENERATOR, [*GENERATOR, "--check"]):
        done = subprocess.run([*command, tmp_path], check=False, capture_output=True, text=True, timeout=60, cwd=ROOT)
        assert done.returncode == 0, done.stderr
    outdated = tmp_path / "helm/pg-slot-healer/files/shipped.yaml"
    outdated.write_text("exporter: {}\n", "utf-8")
    done = subprocess.run(
        [*GENERATOR, "--check", tmp_path], check=False, capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.returncode == 1
    assert done.stderr == "shipped.yaml is out of step with its source: run make kubernetes\n"
    assert outdated.read_text("utf-8") == "exporter: {}\n"


@pytest.mark.tools
def test_promtool_accepts_prometheus_rule(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump(find("PrometheusRule", "pg-slot-healer")["spec"]), "utf-8")
    done = subprocess.run(
        ["promtool", "check", "rules", rules], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@for_each_program
def test_image_tag_is_this_version(program: str) -> None:
    assert container(program)["image"] == f"pg-slot-healer:{__version__}"
    [image] = read_yaml(FOLDER / "kustomization.yaml")["images"]
    assert (image["name"], image["newTag"]) == ("pg-slot-healer", __version__)


@for_each_program
def test_pod_is_hardened(program: str) -> None:
    spec = pod(program)
    user = int(re.findall(r"^USER (\d+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)[0])
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(program)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert find("ServiceAccount", spec["serviceAccountName"])["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert container(program)["resources"]["limits"]["memory"]
    assert set(container(program)["resources"]["requests"]) == {"cpu", "memory"}
    assert all(mount["readOnly"] for mount in container(program)["volumeMounts"])


@for_each_program
def test_arguments_are_accepted_by_program(program: str) -> None:
    spec = container(program)
    assert spec["command"] == [program]
    options = PARSERS[program]().parse_args(spec["args"])
    assert options.listen == f":{PORTS[program]}"
    [config] = [mount["mountPath"] for mount in spec["volumeMounts"] if mount["name"] == "config"]
    assert options.config_file == Path(config) / "pgslot.yml"
    assert options.config_file.name in find("ConfigMap", "pg-slot-healer")["data"]


@for_each_program
def test_ports_of_container_service_monitor_and_policy_agree(program: str) -> None:
    [port] = container(program)["ports"]
    assert port == {"name": "http", "containerPort": PORTS[program]}
    service = find("Service", program)
    assert service["spec"]["ports"] == [{"name": "http", "port": PORTS[program], "targetPort": "http"}]
    labels = find("Deployment", program)["spec"]["template"]["metadata"]["labels"]
    selector = {"app.kubernetes.io/name": program}
    assert selector.items() <= labels.items()
    assert find("Deployment", program)["spec"]["selector"]["matchLabels"] == selector
    assert service["spec"]["selector"] == selector
    policy = find("NetworkPolicy", program)["spec"]
    assert policy["podSelector"]["matchLabels"] == selector
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"port": PORTS[program]}]]
    assert {"port": 5432} in [port for rule in policy["egress"] for port in rule["ports"]]
    monitor = find("ServiceMonitor", program)["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} == {"http"}


@for_each_program
def test_job_label_matches_rules_and_prometheus_yml(program: str) -> None:
    prometheus = read_yaml(ROOT / "alerts/prometheus.yml")
    scrapes = {job["job_name"]: job for job in prometheus["scrape_configs"]}
    endpoints = find("ServiceMonitor", program)["spec"]["endpoints"]
    jobs = [JOBS[program], "pgslot-creations"] if program == "pg-slot-exporter" else [JOBS[program]]
    for endpoint, job in zip(endpoints, jobs, strict=True):
        assert {"targetLabel": "job", "replacement": job} in endpoint["relabelings"]
        assert (endpoint.get("params"), endpoint["honorLabels"]) == (scrapes[job].get("params"), True)
        assert endpoint["interval"] == scrapes[job].get("scrape_interval", "15s")
    rules = (ROOT / "alerts/pgslot.rules.yml").read_text("utf-8")
    for pattern in re.findall(r'\bjob=~?"([^"]*)"', rules):
        assert any(re.fullmatch(pattern, job) for job in JOBS.values()), pattern


def test_exporter_has_one_replica_and_healer_has_two() -> None:
    exporter, healer = (find("Deployment", program)["spec"] for program in PORTS)
    assert (exporter["replicas"], exporter["strategy"]["type"]) == (1, "Recreate")
    assert healer["replicas"] == 2
    budget = find("PodDisruptionBudget", "pg-slot-healer")["spec"]
    assert budget["minAvailable"] < healer["replicas"]
    assert budget["selector"] == healer["selector"]
    [spread] = pod("pg-slot-healer")["topologySpreadConstraints"]
    assert spread["labelSelector"] == healer["selector"]
    [probe] = (step["exec"]["command"] for step in container("pg-slot-healer")["lifecycle"].values())
    assert probe[0] == "sleep"
    assert int(probe[1]) < pod("pg-slot-healer")["terminationGracePeriodSeconds"]


def all_conninfos(config: Config) -> Iterator[Conninfo]:
    for cluster in config.clusters:
        yield from (node.conninfo for node in cluster.nodes)
        assert cluster.healer is not None
        yield cluster.healer.conninfo


@for_each_program
def test_mounted_configuration_loads_with_secrets_of_program(program: str, tmp_path: Path) -> None:
    config = load(mounted(program, tmp_path, filled()))
    check_secrets(config, healer=program == "pg-slot-healer")
    assert all(conninfo.file is not None for conninfo in all_conninfos(config))  # no password in a ConfigMap
    if program == "pg-slot-healer":
        assert webhook_token(config.healer) == "token"
    else:
        # The exporter gets no secret of the healer.
        with pytest.raises(ConfigError, match="readable file"):
            check_secrets(config, healer=True)


def test_every_example_key_is_used_and_alertmanager_sends_same_token(tmp_path: Path) -> None:
    config = load(mounted("pg-slot-healer", tmp_path, filled()))
    used_keys = {conninfo.file.name for conninfo in all_conninfos(config) if conninfo.file is not None}
    assert used_keys | {"token"} == {key for keys in EXAMPLES.values() for key in keys}
    [receiver] = find("AlertmanagerConfig", "pg-slot-healer")["spec"]["receivers"]
    [webhook] = receiver["webhookConfigs"]
    reference = webhook["httpConfig"]["authorization"]["credentials"]
    assert EXAMPLES[reference["name"]].keys() == {reference["key"]}


@pytest.mark.parametrize("secret", EXAMPLES)
def test_program_rejects_placeholder_secrets(secret: str, tmp_path: Path) -> None:
    secrets = filled() | {secret: EXAMPLES[secret]}
    file = mounted("pg-slot-healer", tmp_path, secrets)
    done = in_process.run("pg-slot-healer", f"--config.file={file}", "--check")
    assert done.returncode == BAD_INPUT
    assert re.search(r'found (the option "<host"; libpq has "host"|an empty file)', done.stderr)
    assert "password=" not in done.stderr


def test_manifests_contain_no_secret() -> None:
    for _, manifest in MANIFESTS:
        assert "data" not in manifest or manifest["kind"] == "ConfigMap"
    assert "password" not in find("ConfigMap", "pg-slot-healer")["data"]["pgslot.yml"]


def test_every_route_to_healer_has_an_alertmanager_config() -> None:
    alertmanager = read_yaml(ROOT / "alerts/alertmanager.yml")
    to_healer = [route for route in alertmanager["route"]["routes"] if route["receiver"] == "healer"]
    assert len(to_healer) == sum(manifest["kind"] == "AlertmanagerConfig" for _, manifest in MANIFESTS)


@pytest.mark.parametrize(("name", "label"), [("pg-slot-healer", "heal="), ("pg-slot-healer-heartbeat", "heartbeat=")])
def test_route_matches_alertmanager_yml(name: str, label: str) -> None:
    alertmanager = read_yaml(ROOT / "alerts/alertmanager.yml")
    shipped = next(
        route for route in alertmanager["route"]["routes"] if route["receiver"] == "healer" and label in str(route)
    )
    route = find("AlertmanagerConfig", name)["spec"]["route"]
    [matcher] = route["matchers"]
    assert [f'{matcher["name"]}{matcher["matchType"]}"{matcher["value"]}"'] == shipped["matchers"]
    for operator_key, alertmanager_key in {
        "groupBy": "group_by",
        "groupWait": "group_wait",
        "groupInterval": "group_interval",
        "repeatInterval": "repeat_interval",
        "continue": "continue",
    }.items():
        assert route.get(operator_key) == shipped.get(alertmanager_key)
    [receiver] = find("AlertmanagerConfig", name)["spec"]["receivers"]
    assert receiver["webhookConfigs"][0]["url"] == f"http://pg-slot-healer.pgslot.svc:{PORTS['pg-slot-healer']}/alerts"

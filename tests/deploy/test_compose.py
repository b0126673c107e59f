"""docker-compose.yml, checked without a container engine: everything that it names exists and fits together."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import in_process
from tests.support.documents import read_yaml
from tests.support.paths import ROOT

DEPLOY = ROOT / "deploy/compose"
COMPOSE: dict[str, Any] = read_yaml(ROOT / "docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

for_each_service = pytest.mark.parametrize("service", SERVICES)
for_each_program = pytest.mark.parametrize(
    ("service", "program", "port"), [("exporter", "pg-slot-exporter", 9877), ("healer", "pg-slot-healer", 9878)]
)


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command. Raises FileNotFoundError if the program is missing, which fails the test."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("compose") / "secrets"
    done = run("sh", DEPLOY / "make-secrets.sh", directory)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.mark.tools
def test_docker_compose_accepts_file(tmp_path: Path) -> None:
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    done = run("docker-compose", "--file", "docker-compose.yml", "config", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.tools
def test_docker_compose_rejects_unknown_key(tmp_path: Path) -> None:
    """The test above can fail."""
    text = (ROOT / "docker-compose.yml").read_text()
    assert "read_only: true" in text
    (tmp_path / "docker-compose.yml").write_text(text.replace("read_only: true", "read_onli: true"))
    done = run("docker-compose", "--file", "docker-compose.yml", "config", "--quiet", cwd=tmp_path)
    assert done.returncode != 0
    assert "read_onli" in done.stderr


def test_every_secret_is_created_and_used(secrets: Path) -> None:
    files = {name: Path(entry["file"]) for name, entry in COMPOSE["secrets"].items()}
    assert all(path == Path("deploy/compose/secrets") / name for name, path in files.items())
    assert {path.name for path in secrets.iterdir()} == set(files)
    assert {name for service in SERVICES.values() for name in service.get("secrets", [])} == set(files)


def test_secrets_are_random_private_and_kept(secrets: Path, tmp_path: Path) -> None:
    contents = {path.name: path.read_text() for path in secrets.iterdir()}
    assert len(set(contents.values())) == len(contents)
    assert all(re.fullmatch(r"[0-9a-f]{48}", text) for name, text in contents.items() if "conninfo" not in name)
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in secrets.iterdir())  # each container has its own user
    run("sh", DEPLOY / "make-secrets.sh", secrets)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == contents
    run("sh", DEPLOY / "make-secrets.sh", tmp_path / "other")
    assert (tmp_path / "other/webhook-token").read_text() != contents["webhook-token"]


def test_git_ignores_secrets() -> None:
    lines = (DEPLOY / "secrets/.gitignore").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["*", "!.gitignore"]


def test_files_contain_no_password() -> None:
    for path in (ROOT / "docker-compose.yml", *DEPLOY.glob("*.sh"), DEPLOY / "pgslot.yml"):
        for value in re.findall(r"(?i)password(?:__?file)?['\"]?(?:=|: )\s*(\S+)", path.read_text()):
            assert value.startswith(("/run/secrets/", "$(cat", "{file:")), f"{path.name}: {value}"


@for_each_service
def test_every_mounted_file_exists(service: str) -> None:
    for volume in SERVICES[service].get("volumes", []):
        source, target, *mode = volume.split(":")
        if source.startswith("."):
            assert (ROOT / source).exists(), volume
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]
        assert target.startswith("/")


@for_each_service
def test_every_service_has_pinned_image_health_check_and_loopback_ports(service: str) -> None:
    spec = SERVICES[service]
    assert re.search(r":v?\d+\.\d+(\.\d+|-)|^pg-slot-healer:demo$", spec["image"])
    assert all(port.startswith("127.0.0.1:") for port in spec.get("ports", []))
    assert "healthcheck" in spec or spec["image"] == "pg-slot-healer:demo"  # this image has its own
    assert spec["restart"] == "unless-stopped"
    for name, condition in spec.get("depends_on", {}).items():
        assert name in SERVICES
        assert condition == {"condition": "service_healthy"}


@for_each_service
def test_every_service_is_hardened_and_limited(service: str) -> None:
    spec = SERVICES[service]
    assert spec["read_only"] is True
    assert spec["cap_drop"] == ["ALL"]
    assert spec["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"\d+[mg]", spec["mem_limit"])
    assert spec["pids_limit"] <= 256
    assert spec["logging"]["options"]["max-size"]
    # The other images already run as an unprivileged user; the postgres image starts as root.
    assert not spec["image"].startswith("postgres:") or spec["user"] == "999:999"


def test_only_exporter_and_healer_are_in_both_networks() -> None:
    assert COMPOSE["networks"]["databases"] == {"internal": True}
    assert {name for name, spec in SERVICES.items() if len(spec["networks"]) > 1} == {"exporter", "healer"}
    assert {name for name, spec in SERVICES.items() if spec["networks"] == ["databases"]} == {"primary", "standby"}
    # An internal network publishes no ports.
    assert all("ports" not in SERVICES[name] for name in ("primary", "standby"))


def test_both_servers_have_settings_for_slots_on_standby() -> None:
    for name in ("primary", "standby"):
        assert SERVICES[name]["command"][:2] == ["postgres", "-cwal_level=logical"]
    assert "-chot_standby_feedback=on" in SERVICES["standby"]["command"]


def test_grafana_finds_its_dashboards_and_data_source() -> None:
    spec = SERVICES["grafana"]
    mounts = {target: ROOT / source for source, target, *_ in (volume.split(":") for volume in spec["volumes"])}
    home = Path(spec["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (mounts[str(home.parent)] / home.name).is_file()
    [provider] = read_yaml(ROOT / "dashboards/provisioning/dashboards/pgslot.yml")["providers"]
    assert provider["options"]["path"] in mounts
    [source] = read_yaml(ROOT / "dashboards/provisioning/datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["access"] == "proxy"


def test_prometheus_finds_every_rule_file() -> None:
    targets = [volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]]
    for file in read_yaml(ROOT / "alerts/prometheus.yml")["rule_files"]:
        assert f"/etc/prometheus/{file}" in targets


@pytest.mark.parametrize(
    ("service", "program"), [("prometheus", "prometheus"), ("alertmanager", "prometheus-alertmanager")]
)
@pytest.mark.servers
def test_every_flag_exists_in_prometheus_or_alertmanager(service: str, program: str) -> None:
    done = run(program, "--help")
    for flag in SERVICES[service]["command"]:
        assert re.search(rf"{re.escape(flag.split('=')[0])}\b", done.stdout + done.stderr), flag


@for_each_service
def test_every_path_in_command_is_mounted(service: str) -> None:
    spec = SERVICES[service]
    targets = [volume.split(":")[1] for volume in spec.get("volumes", [])]
    for argument in [*spec.get("entrypoint", []), *spec.get("command", [])]:
        for path in re.findall(r"(?:^|=)(/\S+)", argument):
            assert path in targets
    for value in spec.get("environment", {}).values():
        if value.startswith("/run/secrets/"):
            assert Path(value).name in spec["secrets"]
        elif value.startswith("/"):
            assert {value, str(Path(value).parent)} & set(targets)


@pytest.mark.parametrize("script", sorted(DEPLOY.glob("*.sh")), ids=lambda script: script.name)
def test_script_is_executable_and_parses(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    done = run(script.read_text().splitlines()[0].removeprefix("#!"), "-n", script)
    assert done.returncode == 0, done.stderr


@for_each_program
def test_every_flag_exists_in_program(service: str, program: str, port: int) -> None:
    command = SERVICES[service]["command"]
    assert command[0] == program
    help_text = in_process.run(program, "--help").stdout
    for flag in command[1:]:
        assert re.search(rf"(?<!\S){re.escape(flag.split('=')[0])}\b", help_text), flag
    assert str(port) in help_text


@for_each_program
def test_ports_are_those_of_program(service: str, program: str, port: int) -> None:
    assert SERVICES[service]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"--web.listen-address=0.0.0.0:{port}" in SERVICES[service]["command"]
    prometheus = read_yaml(ROOT / "alerts/prometheus.yml")
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in prometheus["scrape_configs"]}
    assert targets[f"pgslot-{service}"] == [f"{service}:{port}"]
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f"{port}" in next(line for line in dockerfile.splitlines() if line.startswith("EXPOSE"))
    assert program in dockerfile


@for_each_program
def test_program_accepts_configuration(service: str, program: str, port: int, secrets: Path, tmp_path: Path) -> None:
    """Only the secrets of the program's container are available."""
    config = (DEPLOY / "pgslot.yml").read_text()
    assert yaml.safe_load(config)["healer"]["alertmanager_url"] == "http://alertmanager:9093"
    for name in SERVICES[service]["secrets"]:
        (tmp_path / name).write_bytes((secrets / name).read_bytes())
    file = tmp_path / "pgslot.yml"
    file.write_text(config.replace("/run/secrets", str(tmp_path)))
    done = in_process.run(program, f"--config.file={file}", "--check")
    assert done.returncode == 0, f"{port}: {done.stdout}{done.stderr}"


def test_webhook_reaches_healer_with_its_token() -> None:
    alertmanager = read_yaml(ROOT / "alerts/alertmanager.yml")
    (healer,) = (entry for entry in alertmanager["receivers"] if entry["name"] == "healer")
    (webhook,) = healer["webhook_configs"]
    assert webhook["url"] == "http://healer:9878/alerts"
    assert webhook["send_resolved"] is True
    token = webhook["http_config"]["authorization"]["credentials_file"]
    assert token == read_yaml(DEPLOY / "pgslot.yml")["healer"]["webhook_token_file"]
    for service in ("healer", "alertmanager"):
        assert Path(token).name in SERVICES[service]["secrets"]


def test_connection_strings_name_existing_services_and_roles(secrets: Path) -> None:
    roles = (DEPLOY / "primary-init.sh").read_text()
    for path in secrets.glob("*conninfo*"):
        parts = dict(part.split("=", 1) for part in path.read_text().split())
        assert set(parts["host"].split(",")) <= set(SERVICES)
        assert f"CREATE ROLE {parts['user']} " in roles
        assert parts["password"] == (secrets / f"{parts['user'].removeprefix('pgslot_')}-password").read_text()


def test_container_trial_runs_all_services_except_grafana() -> None:
    script = (ROOT / "tests/deploy/containers/run.sh").read_text("utf-8")
    services = re.search(r"^SERVICES=\(([\w ]+)\)$", script, re.MULTILINE)
    assert services is not None
    assert set(services[1].split()) == set(SERVICES) - {"grafana"}

"""
The services of docker-compose.yml without containers.

Commands, health checks, mounted files and secrets are those of the file. Only the environment of a container is
replaced: host names and ports by addresses on loopback, and paths by paths below a temporary folder. Grafana is left
out.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
import yaml

from tests.support.paths import ROOT
from tests.support.servers import binaries
from tests.support.servers.processes import Process, free_port, wait_for

STAND_INS = Path(__file__).parent
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
PORTS = {
    "primary": 5432,
    "standby": 5432,
    "exporter": 9877,
    "healer": 9878,
    "prometheus": 9090,
    "alertmanager": 9093,
}
"""The port of each service in its container."""
POSTGRES = ("primary", "standby")
PROGRAMS = {"prometheus": "prometheus", "alertmanager": "prometheus-alertmanager"}
"""The entrypoints of these images, by the names of Debian's programs."""


class Native:
    """A context in which the services run, started in the order of depends_on."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pgslot-"))
        # The unprivileged user that runs PostgreSQL needs access.
        self.folder.chmod(0o755)
        self.ports = {service: free_port() for service in PORTS}
        self.secrets = self.folder / "secrets"
        self.processes: dict[str, Process] = {}
        self._postgres = binaries.find(self.folder)
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        self._cleanup.callback(shutil.rmtree, self.folder, ignore_errors=True)
        try:
            self._make_secrets()
            shutil.copytree(STAND_INS, self.folder / "bin")
            waiting = list(PORTS)
            while waiting:
                service = next(name for name in waiting if not set(SERVICES[name].get("depends_on", ())) & set(waiting))
                self._start(service)
                waiting.remove(service)
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def healthy(self, service: str) -> bool:
        """Run the service's own health check; a missing program fails it."""
        check = SERVICES[service].get("healthcheck", {}).get("test")
        if check is None:
            # The service uses the health check of its image.
            dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
            assert 'CMD ["python", "/opt/pgslot/healthcheck.py"]' in dockerfile
            command = [sys.executable, str(ROOT / "deploy/docker/healthcheck.py"), str(self.processes[service].pid)]
            return subprocess.run(command, check=False, timeout=10, capture_output=True).returncode == 0
        if check[:2] == ["CMD", "wget"]:
            url = check[-1].replace(f"127.0.0.1:{PORTS[service]}", f"127.0.0.1:{self.ports[service]}")
            return bool(requests.get(url, timeout=5).status_code == 200)
        command = ["env", *(f"{name}={value}" for name, value in self._environment(service).items()), *check[1:]]
        return subprocess.run(command, check=False, timeout=10, capture_output=True).returncode == 0

    def run(self, line: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the repository, with a stand-in for docker-compose."""
        environment = {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "NATIVE": str(self.folder)}
        return subprocess.run(
            ["sh", "-c", line], check=False, timeout=timeout, capture_output=True, text=True, cwd=ROOT, env=environment
        )

    def sql(self, service: str, statement: str) -> str:
        """Run a statement as superuser over the Unix socket."""
        done = self.run(f'docker-compose exec -T {service} psql -U postgres -Atc "{statement}"', 30)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of a Prometheus query."""
        url = f"http://127.0.0.1:{self.ports['prometheus']}/api/v1/query"
        return list(requests.get(url, params={"query": expression}, timeout=10).json()["data"]["result"])

    def _make_secrets(self) -> None:
        subprocess.run([ROOT / "deploy/compose/make-secrets.sh", self.secrets], check=True, capture_output=True)
        # A container can read mounted files whatever the permissions of their folder on the host.
        self.secrets.chmod(0o755)
        for file in self.secrets.iterdir():
            file.write_text(re.sub(r"host=(\S+)", self._hosts, file.read_text("utf-8")), "utf-8")

    def _hosts(self, match: re.Match[str]) -> str:
        services = match[1].split(",")
        addresses = ",".join("127.0.0.1" for _ in services)
        return f"host={addresses} port={','.join(str(self.ports[service]) for service in services)}"

    def _start(self, service: str) -> None:
        spec = SERVICES[service]
        home = self.folder / service
        home.mkdir()
        for volume in spec.get("volumes", []):
            self._mount(home, *volume.split(":")[:2])
        arguments = [self._localise(home, argument) for argument in [*spec.get("entrypoint", []), *spec["command"]]]
        user = None
        if service in POSTGRES:
            arguments = arguments if "entrypoint" in spec else ["docker-entrypoint.sh", *arguments]
            (home / "socket").mkdir()
            user = self._chown_to_postgres(home)
            environment = self._environment(service)
            (self.folder / f"{service}.env").write_text(
                "".join(f"{name}='{value}'\n" for name, value in environment.items()), "utf-8"
            )
            arguments = ["env", *(f"{name}={value}" for name, value in environment.items()), *arguments]
        elif service in PROGRAMS:
            arguments = [
                PROGRAMS[service],
                *arguments,
                f"--web.listen-address=127.0.0.1:{self.ports[service]}",
            ]
        else:
            arguments[0] = str(Path(sys.executable).with_name(arguments[0]))
        process = Process(arguments, self.folder / f"{service}.log", user=user)
        self.processes[service] = process
        self._cleanup.callback(process.stop)
        process.start()
        wait_for(lambda: self._healthy_or_ended(service), f"{service} is healthy", timeout=60, log=process.log)

    def _healthy_or_ended(self, service: str) -> bool:
        process = self.processes[service]
        if not process.running:
            raise RuntimeError(f"{service} ended: {process.log.read_text('utf-8', 'replace')[-3000:]}")
        try:
            return self.healthy(service)
        except requests.RequestException:
            return False

    def _mount(self, home: Path, source: str, target: str) -> None:
        """Copy a mounted file to its path below `home`, with local addresses; create an empty folder for a volume."""
        path = home / target.lstrip("/")
        if not source.startswith("."):
            path.mkdir(parents=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._localise(home, (ROOT / source).read_text("utf-8"), paths=False), "utf-8")
        path.chmod((ROOT / source).stat().st_mode)

    def _localise(self, home: Path, text: str, *, paths: bool = True) -> str:
        """Replace addresses and the secrets' folder by local ones; in arguments (`paths`) also absolute paths."""
        for service, port in PORTS.items():
            text = text.replace(f"{service}:{port}", f"127.0.0.1:{self.ports[service]}")
            text = text.replace(f"0.0.0.0:{port}", f"127.0.0.1:{self.ports[service]}")
        if paths and not text.startswith("/run/secrets"):
            text = re.sub(r"(^|=)(/)", rf"\1{home}/", text)
        if home.name not in POSTGRES or paths:
            text = text.replace("/run/secrets", str(self.secrets))
        return text

    def _environment(self, service: str) -> dict[str, str]:
        home = self.folder / service
        variables = SERVICES[service].get("environment", {})
        return {name: self._localise(home, value) for name, value in variables.items()} | {
            "PATH": f"{self.folder / 'bin'}:{self._postgres.tools}:/usr/bin:/bin",
            "PGDATA": str(home / "var/lib/postgresql/18/docker"),
            "PGHOST": str(home / "socket"),
            "PGPORT": str(self.ports[service]),
            "INIT_SCRIPTS": str(home / "docker-entrypoint-initdb.d"),
            "SECRETS": str(self.secrets),
            "PRIMARY_HOST": "127.0.0.1",
            "PRIMARY_PORT": str(self.ports["primary"]),
        }

    def _chown_to_postgres(self, home: Path) -> int | None:
        user = self._postgres.user
        if user is not None:
            for path in (home, *home.rglob("*")):
                os.chown(path, user, user)
        return user

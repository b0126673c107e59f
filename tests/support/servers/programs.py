"""pg-slot-exporter and pg-slot-healer as processes, started by their console scripts."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import requests
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.support.servers.processes import Process, free_port, wait_for


class Program:
    """pg-slot-exporter or pg-slot-healer; its log is JSON lines."""

    def __init__(
        self, name: str, config: Path, folder: Path, *, port: int | None = None, outlive_us: bool = False
    ) -> None:
        self.name = name
        self.port = port or free_port()
        self.process = Process(
            [
                program_path(name),
                f"--config.file={config}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--log.format=json",
            ],
            folder / f"{name}.log",
            outlive_us=outlive_us,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process.start()
        wait_for(self._ready, f"{self.name} is ready", log=self.process.log)

    def stop(self) -> int | None:
        return self.process.stop()

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(self.url + path, headers=headers, timeout=30)

    def get_json(self, path: str) -> Any:
        return self.get(path).json()

    def all_samples(self) -> Iterator[Sample]:
        for family in text_string_to_metric_families(self.get("/metrics").text):
            yield from family.samples

    def samples(self, name: str, **labels: str) -> list[Sample]:
        """Return the samples of this name whose labels include these."""
        return [
            sample for sample in self.all_samples() if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of the only sample with this name and these labels; None if there is none."""
        samples = self.samples(name, **labels)
        assert len(samples) <= 1, f"{name}{labels} is not one series: {samples}"
        return float(samples[0].value) if samples else None

    def log_events(self) -> list[dict[str, Any]]:
        """Return the events of the log, with the Unix time as `at`."""
        events = []
        for line in self.process.log.read_text("utf-8").splitlines(keepends=True):
            # The last line may be incomplete.
            if line.startswith("{") and line.endswith("\n"):
                event = json.loads(line)
                events.append(event | {"at": datetime.fromisoformat(event["ts"]).timestamp()})
        return events

    def _ready(self) -> bool:
        if not self.process.running:
            raise RuntimeError(f"{self.name} ended: {self.process.log.read_text('utf-8', 'replace')[-3000:]}")
        try:
            return self.get("/-/ready").status_code == 200
        except requests.RequestException:
            return False


def program_path(name: str) -> Path:
    """Return a program of the environment that the tests run in."""
    return Path(sys.executable).with_name(name)


HEALER_PROGRAM = program_path("pg-slot-healer")
EXPORTER_PROGRAM = program_path("pg-slot-exporter")


def run_healer(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the healer as a user does, to its end."""
    return subprocess.run([HEALER_PROGRAM, *arguments], capture_output=True, text=True, timeout=90, check=False)

"""README's lines run as a reader would, in a shell, with only the reader's own addresses, ports and paths put in."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.markdown import Fence, code_spans, fences
from tests.support.paths import ROOT
from tests.support.servers.processes import Process

README = ROOT / "README.md"
BLOCKS = list(fences(README))


def block(start: str) -> Fence:
    """Return the one block that begins like this."""
    found = [each for each in BLOCKS if each.text.startswith(start)]
    assert len(found) == 1, f"README has {len(found)} blocks that begin with {start!r}"
    return found[0]


def lines(fence: Fence) -> Iterator[str]:
    """Return its lines, those that end in a backslash with the next one."""
    yield from fence.text.replace("\\\n", " ").splitlines()


class Reader:
    """Sits in a folder of his own, with `tools` (psql and the like) and our two programs in his PATH."""

    def __init__(
        self, folder: Path, tools: Path, replacements: Mapping[str, str], environment: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._replacements = replacements
        path = f"{Path(sys.executable).parent}:{tools}:{os.environ['PATH']}"
        self._environment = {**os.environ, **environment, "PATH": path}
        self.typed: set[str] = set()
        """The lines of README that were run."""

    def with_own(self, text: str) -> str:
        """Return README's text with what is the reader's own."""
        for theirs, own in self._replacements.items():
            text = text.replace(theirs, own)
        return text

    def line(self, start: str) -> str:
        """Return the one line of all shell blocks that begins like this, made the reader's own, to be typed."""
        found = [line for each in BLOCKS if each.info == "sh" for line in lines(each) if line.startswith(start)]
        assert len(found) == 1, f"README has {len(found)} lines that begin with {start!r}"
        self.typed.add(found[0])
        return self.with_own(found[0])

    def type(self, start: str, stdin: str = "", code: int = 0, **environment: str) -> str:
        """Run that line to its end, away from any terminal; return what it prints."""
        return self.run(self.line(start), stdin, code, **environment)

    def span(self, start: str) -> str:
        """Return what stands in the text between backticks and begins like this, made the reader's own."""
        found = {span for span in code_spans(README) if span.startswith(start)}
        assert len(found) == 1, f"README has {len(found)} spans that begin with {start!r}"
        return self.with_own(*found)

    def run(self, command: str, stdin: str = "", code: int = 0, **environment: str) -> str:
        done = self.outcome(command, stdin, **environment)
        assert done.returncode == code, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def outcome(self, command: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it, whatever comes of it."""
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            input=stdin,
            cwd=self._folder,
            env=self._environment | environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            start_new_session=True,
        )

    def started(self, start: str, name: str) -> Process:
        """Start that line, which does not end by itself."""
        script = f"cd {self._folder} && export PATH={self._environment['PATH']} && exec {self.line(start)}"
        process = Process(["bash", "-c", script], self._folder / f"{name}.log")
        process.start()
        return process


RUN = "by tests/docs/test_readme_on_servers.py, each line"
CHECKED = "a configuration, by test_configuration_is_accepted_by_both_programs"
HOW_TESTED = {
    "   PostgreSQL  ": "a drawing",
    "make demo  ": "by test_make_targets_exist; the targets are what people and CI run",
    "pg-slot-healer grants | psql": RUN,
    "hostssl  postgres": RUN,
    "psql -d postgres -c 'SELECT pg_reload_conf()'": RUN,
    "clusters:": CHECKED,
    "pg-slot-exporter --config.file=pgslot.yml --check": RUN,
    "pg-slot-healer doctor": RUN,
    "ok       node ": "what the doctor prints, by tests/docs/test_readme_on_servers.py",
    "pg_recvlogical ": RUN,
    "pg-slot-healer heal orders": RUN,
    "docker build ": "needs a container engine: `make containers`; its steps natively by tests/deploy/test_image.py",
    "deploy/compose/make-secrets.sh": "needs a container engine: `make containers`; both scripts natively by"
    " tests/deploy/test_compose.py and tests/deploy/test_compose_on_servers.py",
    "kubectl apply ": "needs a cluster; the objects are tested by"
    " tests/deploy/test_kubernetes.py and tests/deploy/test_kubernetes_on_servers.py",
}
"""How each block of README is tested, or why not, by how it begins."""


def ways_tested(block: Fence) -> list[str]:
    return [way for start, way in HOW_TESTED.items() if block.text.startswith(start)]


def shell_lines_that_are_run() -> Iterator[str]:
    """Return the lines that tests/docs/test_readme_on_servers.py has to run, all of them."""
    for block in BLOCKS:
        if block.info == "sh" and ways_tested(block) == [RUN]:
            yield from lines(block)


def merged_config(one: Any, other: Any) -> Any:
    """Return a configuration with another one's keys put into it, however deep; `...` stands for what is there."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one if other == "..." else other
    return one | {key: merged_config(one.get(key), value) for key, value in other.items()}

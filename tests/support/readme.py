"""Runs the lines of README and docs in a shell, changed only to use the reader's addresses, ports and paths."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docs.generators.__main__ import PAGES as GENERATED_NAMES
from tests.support.markdown import Fence, code_spans, fences
from tests.support.paths import ROOT
from tests.support.servers.processes import Process

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
"""All pages that people read, but for the runbooks."""
GENERATED = {ROOT / "docs/reference" / name for name in GENERATED_NAMES}
WRITTEN = [page for page in PAGES if page not in GENERATED]
BLOCKS = [fence for page in WRITTEN for fence in fences(page)]
SPANS = sorted({span for page in WRITTEN for span in code_spans(page)})


def block(start: str) -> Fence:
    """Return the only block that begins with this text."""
    blocks = [fence for fence in BLOCKS if fence.text.startswith(start)]
    assert len(blocks) == 1, f"README and docs have {len(blocks)} blocks that begin with {start!r}"
    return blocks[0]


def lines(fence: Fence) -> Iterator[str]:
    """Return the lines of a block; a line that ends in a backslash is joined with the next."""
    yield from fence.text.replace("\\\n", " ").splitlines()


class Reader:
    """A shell user in a folder, with `tools` (psql and the like) and both programs in the PATH."""

    def __init__(
        self, folder: Path, tools: Path, replacements: Mapping[str, str], environment: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._replacements = replacements
        path = f"{Path(sys.executable).parent}:{tools}:{os.environ['PATH']}"
        self._environment = {**os.environ, **environment, "PATH": path}
        self.typed: set[str] = set()
        """The lines that have been run."""

    def localised(self, text: str) -> str:
        """Return a page's text with the reader's addresses, ports and paths."""
        for placeholder, value in self._replacements.items():
            text = text.replace(placeholder, value)
        return text

    def line(self, start: str) -> str:
        """Return the only line of all shell blocks that begins with this text, localised, and count it as run."""
        shell = [fence for fence in BLOCKS if fence.info == "sh"]
        matches = {line for fence in shell for line in lines(fence) if line.startswith(start)}
        assert len(matches) == 1, f"README and docs have {len(matches)} lines that begin with {start!r}"
        self.typed |= matches
        return self.localised(*matches)

    def type(self, start: str, stdin: str = "", code: int = 0, **environment: str) -> str:
        """Run the line that begins with this text to its end, without a terminal; return its output."""
        return self.run(self.line(start), stdin, code, **environment)

    def span(self, start: str) -> str:
        """Return the only code span of the text that begins like this, localised."""
        spans = [span for span in SPANS if span.startswith(start)]
        assert len(spans) == 1, f"README and docs have {len(spans)} spans that begin with {start!r}"
        return self.localised(*spans)

    def run(self, command: str, stdin: str = "", code: int = 0, **environment: str) -> str:
        done = self.outcome(command, stdin, **environment)
        assert done.returncode == code, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def outcome(self, command: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command; a failure raises nothing."""
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            input=stdin,
            cwd=self._folder,
            env=self._environment | environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            start_new_session=True,
        )

    def started(self, start: str, name: str) -> Process:
        """Start the line that begins with this text, which runs until it is stopped."""
        script = f"cd {self._folder} && export PATH={self._environment['PATH']} && exec {self.line(start)}"
        process = Process(["bash", "-c", script], self._folder / f"{name}.log")
        process.start()
        return process


RUN = "by tests/docs/test_readme_on_servers.py, each line"
CHECKED = "a configuration, by test_configuration_is_accepted_by_both_programs"
HOW_TESTED = {
    "   PostgreSQL  ": "a drawing",
    "   restart_lsn  ": "a drawing",
    "   transaction begins": "a drawing",
    "   slot a  ": "a drawing",
    "   exporter  ": "a drawing",
    "Prometheus ──GET": "a drawing",
    "Alertmanager ──POST": "a drawing",
    "pg-slot-exporter --conninfo": RUN,
    "make demo  ": "by test_make_targets_exist; the targets are what people and CI run",
    "pg-slot-healer grants | psql": RUN,
    "hostssl  postgres": RUN,
    "psql -d postgres -c 'SELECT pg_reload_conf()'": RUN,
    "clusters:": CHECKED,
    "pg-slot-exporter --config.file=pgslot.yml --check": RUN,
    "pg-slot-healer doctor": RUN,
    'pg-slot-exporter status --conninfo="host=10.': RUN,
    'pg-slot-exporter status --conninfo="host=shop': "by tests/exporter/test_status_on_servers.py",
    "pg-slot-exporter rehearse orders": RUN,
    "orders: a switchover from": "what a rehearsal prints, by tests/pgslot/exposition/test_rehearsal_report.py",
    "pg-slot-exporter preflight ": "by tests/exporter/test_preflight_on_servers.py",
    "A logical slot (pgoutput) in shop": "what a preflight prints, by tests/pgslot/exposition/test_preflight_report.py",
    "pgslot_active{": "what the lines before it print, by tests/docs/test_readme_on_servers.py",
    "ok       node ": "what the doctor prints, by tests/docs/test_readme_on_servers.py",
    "useradd ": "under a real systemd, each line: `make systemd`",
    "psql -h PRIMARY ": RUN,
    "pg_recvlogical ": RUN,
    "pg-slot-healer heal orders": RUN,
    "pg-slot-healer why ": "by tests/healer/commands/test_why.py, on a running healer",
    "pg-slot-healer heal --conninfo": "by tests/healer/commands/test_heal_hosts.py, on a primary and its standby",
    "docker build ": "needs a container engine: `make containers`; its steps natively by tests/deploy/test_image.py",
    "deploy/compose/make-secrets.sh": "needs a container engine: `make containers`; both scripts natively by"
    " tests/deploy/test_compose.py and tests/deploy/test_compose_on_servers.py",
    "sha256sum --check ": "the sums by tests/deploy/test_release.py; attestations need a published release",
    "cosign verify ": "needs a published release",
    "git checkout v": "needs a tag; `make dist` by tests/deploy/test_release.py",
    "pip install --require-hashes ": "as the Dockerfile does it, by tests/deploy/test_image.py",
    "# my-values.yaml": "rendered by tests/deploy/test_helm_values.py",
    "helm upgrade ": "needs a cluster; rendered by tests/deploy/test_helm.py",
    "password_command:": "needs an account: never run on the service, as its page says",
    "kubectl apply ": "needs a cluster; the objects are tested by"
    " tests/deploy/test_kubernetes.py and tests/deploy/test_kubernetes_on_servers.py",
}
"""How every block of README and docs is tested, or why it is not, by the block's first characters."""


def ways_tested(block: Fence) -> list[str]:
    return [way for start, way in HOW_TESTED.items() if block.text.startswith(start)]


def shell_lines_that_are_run() -> Iterator[str]:
    """Return all lines that tests/docs/test_readme_on_servers.py has to run."""
    for block in BLOCKS:
        if block.info == "sh" and ways_tested(block) == [RUN]:
            yield from lines(block)


def merged_config(base: Any, update: Any) -> Any:
    """Return `base` with the keys of `update` merged in at every depth; `...` keeps the value of `base`."""
    if not isinstance(base, dict) or not isinstance(update, dict):
        return base if update == "..." else update
    return base | {key: merged_config(base.get(key), value) for key, value in update.items()}

"""The files for a public Git host and for developers: the CI workflow, the pre-commit hooks, the security policy."""

import json
import re
import tomllib
from typing import Any

from exporter.cli import COMMANDS as EXPORTER_COMMANDS
from healer.cli import COMMANDS as HEALER_COMMANDS
from tests.support.documents import read_yaml
from tests.support.paths import ROOT

WORKFLOW: dict[str, Any] = read_yaml(ROOT / ".github/workflows/ci.yml")
HOOKS: dict[str, Any] = read_yaml(ROOT / ".pre-commit-config.yaml")
JOBS: dict[str, dict[str, Any]] = WORKFLOW["jobs"]


def test_workflow_runs_the_ci_script() -> None:
    commands = [step["run"] for step in JOBS["check"]["steps"] if "run" in step]
    assert commands[-1] == ".ci/run"
    assert all(command.startswith("apt-get") for command in commands[:-1])
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_every_python_that_the_package_promises_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pythons = JOBS["pythons"]["strategy"]["matrix"]["python"]
    oldest = project["requires-python"].removeprefix(">=")
    assert pythons[0] == oldest
    assert pythons == [f"3.{minor}" for minor in range(int(oldest.partition(".")[2]), 15)]
    assert {f"Programming Language :: Python :: {python}" for python in pythons} <= set(project["classifiers"])
    [command] = [step["run"] for step in JOBS["pythons"]["steps"] if "run" in step]
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(command.split()[1:]) <= targets


def test_workflow_has_read_permission_only() -> None:
    assert WORKFLOW["permissions"] == {}
    text = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    assert "secrets." not in text
    # YAML 1.1 reads the key `on` as true. pull_request_target would run code of a fork with the rights of main.
    events: dict[str, Any] = WORKFLOW[True]  # type: ignore[index]
    assert set(events) == {"push", "pull_request"}
    for job in JOBS.values():
        assert job["permissions"] == {"contents": "read"}
        assert job["timeout-minutes"] <= 90


def test_actions_are_pinned_and_leave_no_credentials() -> None:
    used = [step for job in JOBS.values() for step in job["steps"] if "uses" in step]
    assert used
    for step in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
        assert not step["uses"].startswith("actions/checkout") or step["with"]["persist-credentials"] is False


def test_renovate_pins_images_by_digest_and_renews_all_that_is_pinned() -> None:
    config = json.loads((ROOT / ".github/renovate.json").read_text("utf-8"))
    assert "docker:pinDigests" in config["extends"]
    assert {"dockerfile", "github-actions", "pip_requirements"} <= set(config["enabledManagers"])
    # The pattern by which Renovate finds files of requirements, from its documentation.
    for file in (ROOT / "deploy/docker").glob("*.txt"):
        assert re.search(r"(^|/)[\w-]*requirements([-.]\w+)?\.(txt|pip)$", str(file))


def test_issue_forms_name_commands_that_exist() -> None:
    forms = [read_yaml(file) for file in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if file.name != "config.yml"]
    assert forms
    commands = {"pg-slot-exporter": EXPORTER_COMMANDS, "pg-slot-healer": HEALER_COMMANDS}
    for form in forms:
        assert {"name", "description", "body"} <= set(form)
        for program, command in re.findall(r"`(pg-slot-\w+) (\w+)", str(form)):
            assert command in commands[program]


def test_editor_container_is_the_debian_of_ci_and_sets_up_with_make() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text("utf-8"))
    assert container["image"] == JOBS["check"]["container"]
    assert container["postCreateCommand"] == "make setup"


def test_hooks_are_make_targets() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for repository in HOOKS["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert (hook["language"], hook["entry"]) == ("system", f"make {hook['id']}")
            assert hook["id"] in targets


def test_security_policy_has_no_email_address() -> None:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    assert not re.search(r"\S+@\S+\.\w+", text)
    assert "private vulnerability reporting" in text
    text = (ROOT / "docs/explanation/trust-and-security.md").read_text("utf-8")
    for name in ("webhook_token_file", "--web.config.file", "pg_read_all_stats", "sslmode=verify-full"):
        assert name in text

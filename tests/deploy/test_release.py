"""What is released: built twice with the same bytes, checked, installed; version, tag and CHANGELOG.md agree."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.release.build import build, check_installed
from deploy.release.changelog import (
    ReleaseError,
    check_between_releases,
    check_tag,
    read_changelog,
    release_notes,
)
from deploy.release.sbom import read_direct, read_requirements, sbom
from pgslot import __version__
from tests.support.documents import read_yaml
from tests.support.paths import ROOT

WORKFLOW: dict[str, Any] = read_yaml(ROOT / ".github/workflows/release.yml")
JOBS: dict[str, dict[str, Any]] = WORKFLOW["jobs"]
EPOCH = 1_700_000_000


@pytest.mark.tools
def test_release_is_built_twice_with_the_same_bytes_and_runs_from_an_empty_environment(tmp_path: Path) -> None:
    """build() raises if the builds differ. The dependencies are those of this environment: no index is asked."""
    files = build(ROOT, tmp_path / "dist", __version__, EPOCH)
    [wheel] = [file for file in files if file.suffix == ".whl"]
    summed = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=tmp_path / "dist",
        capture_output=True,
        text=True,
        check=True,
    )
    assert summed.stdout.count(": OK") == 3
    environment, packages = tmp_path / "environment", tmp_path / "packages"
    packages.mkdir()
    for path in Path(yaml.__file__).parents[1].iterdir():
        if "pg_slot_healer" not in path.name:
            (packages / path.name).symlink_to(path)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    [library] = environment.glob("lib/python*/site-packages")
    (library / "dependencies.pth").write_text(f"{packages}\n")
    install = [sys.executable, "-m", "pip", f"--python={environment}", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "install", "--no-index", "--no-deps", wheel], check=True)
    check_installed(environment, __version__)


def test_bill_of_materials_is_valid_and_has_every_pinned_package_and_what_needs_it() -> None:
    requirements = read_requirements(ROOT)
    document = sbom(requirements, read_direct(ROOT), __version__)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is None
    assert document == sbom(requirements, read_direct(ROOT), __version__)
    names = [component["name"] for component in document["components"]]
    assert names == re.findall(r"^([a-z0-9_.-]+)==", requirements, re.MULTILINE)
    [root, *others] = document["dependencies"]
    assert {reference.partition("@")[0] for reference in root["dependsOn"]} >= {"pkg:pypi/aiohttp", "pkg:pypi/psycopg"}
    needed = {reference for item in (root, *others) for reference in item["dependsOn"]}
    for component in document["components"]:
        assert component["bom-ref"] in needed or "properties" in component


def test_version_and_changelog_agree() -> None:
    check_between_releases(read_changelog(ROOT), __version__)


RELEASED = "# Changelog\n\n## [0.2.0] - 2026-11-30\n\n### Added\n\n- status\n\n## [0.1.0] - 2026-01-01\n\n- first\n"


def test_release_notes_are_the_text_of_the_newest_version() -> None:
    assert release_notes(RELEASED, "0.2.0") == "### Added\n\n- status\n"
    assert release_notes(RELEASED.replace("## [0.2.0]", "## [Unreleased]\n\n## [0.2.0]", 1), "0.2.0")


@pytest.mark.parametrize(
    ("changelog", "version", "message"),
    [
        (RELEASED, "0.1.0", "expected 0.1.0 as its newest release, found 0.2.0"),
        ("## [Unreleased]\n\n- a\n", "0.2.0", "expected 0.2.0 as its newest release, found none"),
        (RELEASED.replace(" - 2026-11-30", ""), "0.2.0", "expected a date and a text for 0.2.0, found no date"),
        ("## [Unreleased]\n\n- a\n\n" + RELEASED.partition("\n\n")[2], "0.2.0", "expected nothing under [Unreleased]"),
    ],
)
def test_release_whose_changelog_does_not_fit_is_refused(changelog: str, version: str, message: str) -> None:
    with pytest.raises(ReleaseError, match=re.escape(message)):
        release_notes(changelog, version)


def test_other_tag_and_other_version_are_refused() -> None:
    check_tag("v0.2.0", "0.2.0")
    with pytest.raises(ReleaseError, match=re.escape("expected v0.2.0, as pgslot/__init__.py has it, found v0.3.0")):
        check_tag("v0.3.0", "0.2.0")
    with pytest.raises(ReleaseError, match=re.escape("expected 0.3.0, as pgslot/__init__.py has it, found 0.2.0")):
        check_between_releases(RELEASED, "0.3.0")


def test_only_a_tag_starts_the_workflow_and_every_publication_waits_for_the_tests() -> None:
    events: dict[str, Any] = WORKFLOW[True]  # type: ignore[index]
    assert events == {"push": {"tags": ["v*"]}}
    for name, job in JOBS.items():
        ancestors, waiting = set[str](), [name]
        while waiting:
            needs = JOBS[waiting.pop()].get("needs", [])
            new = {needs} if isinstance(needs, str) else set(needs)
            waiting += new - ancestors
            ancestors |= new
        assert name == "check" or "check" in ancestors
        assert job["timeout-minutes"] <= 90


def test_workflow_has_least_permissions_and_no_stored_secret() -> None:
    assert WORKFLOW["permissions"] == {}
    writing = {
        name: {scope for scope, right in job["permissions"].items() if right == "write"} for name, job in JOBS.items()
    }
    assert writing == {
        "check": set(),
        "build": set(),
        "pypi": {"id-token"},
        "image": {"packages", "id-token", "attestations"},
        "notes": {"contents", "id-token", "attestations"},
    }
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text("utf-8")


def test_actions_are_pinned_with_their_versions_and_leave_no_credentials() -> None:
    text = (ROOT / ".github/workflows/release.yml").read_text("utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    assert [use for use in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", use)] == []
    for job in JOBS.values():
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.tools
def test_zizmor_finds_nothing_in_the_workflows() -> None:
    zizmor = Path(sys.executable).with_name("zizmor")
    done = subprocess.run(
        [zizmor, "--offline", "--no-progress", "--color=never", ROOT / ".github/workflows"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout

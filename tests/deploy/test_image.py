"""The Dockerfile without a container engine: its build steps and its health check run on this machine."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT
from tests.support.servers.processes import free_port
from tests.support.servers.programs import Program

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
STEPS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n", " ", DOCKERFILE).splitlines()
    if line.strip() and not line.startswith("#")
]
FILES = ("deploy/docker/requirements.txt", "deploy/docker/build-requirements.txt")


def pinned(file: str) -> Iterator[tuple[Requirement, list[str]]]:
    """Yield the requirements of a file and the checksums of each."""
    text = re.sub(r"\\\n", " ", (ROOT / file).read_text("utf-8"))
    for line in text.splitlines():
        if not line.startswith("#"):
            requirement, *hashes = line.split(" --hash=")
            yield Requirement(requirement), [value.strip() for value in hashes]


PINS = {
    canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
    for file in FILES
    for requirement, _ in pinned(file)
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def arguments_of(instruction: str) -> list[str]:
    return [argument for keyword, argument in STEPS if keyword == instruction]


def ignored_by_docker(path: str) -> bool:
    """Return whether .dockerignore excludes a path; the last pattern that matches it or a parent decides."""
    parts = path.split("/")
    prefixes = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    ignored = False
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and any(_matches(prefix, pattern) for prefix in prefixes):
            ignored = not line.startswith("!")
    return ignored


def _matches(prefix: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch(prefix.rsplit("/", 1)[-1], pattern.removeprefix("**/"))
    return prefix.count("/") == pattern.count("/") and fnmatch(prefix, pattern)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the build context."""
    target = tmp_path_factory.mktemp("context")
    skipped = {".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", "node_modules"}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in skipped]
        for name in files:
            path = Path(folder, name).relative_to(ROOT)
            if not ignored_by_docker(str(path)):
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / path, target / path)
    return target


@pytest.fixture(scope="module")
def installed(context: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    The environment that the RUN step builds, in a temporary folder instead of /opt/pgslot.

    It works offline: the dependencies are those of this virtual environment, whose versions another test compares with
    the pins. pip finds them there already, so it checks no checksum.
    """
    folder = tmp_path_factory.mktemp("image")
    packages = folder / "packages"
    packages.mkdir()
    for path in Path(yaml.__file__).parents[1].iterdir():
        if "pg_slot_healer" not in path.name:
            (packages / path.name).symlink_to(path)
    [step] = arguments_of("RUN")
    [made] = re.findall(r"python -m venv \S+ /opt/pgslot", step)
    see_them = f"cd /opt/pgslot/lib/python*/site-packages && echo {packages} >dependencies.pth && cd /src"
    step = step.replace(made, f"{made} && {see_them}")
    for image_path, local_path in (
        ("/opt/pgslot", folder / "opt"),
        ("/tmp/wheel", folder / "wheel"),
        ("/src", context),
    ):
        step = step.replace(image_path, str(local_path))
    binaries = Path(sys.executable).parent
    done = subprocess.run(
        ["sh", "-euc", step],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
        cwd=context,
        env={
            "PATH": f"{binaries}:/usr/bin:/bin",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "opt"


def test_build_context_has_only_required_files(context: Path) -> None:
    files = {str(path.relative_to(context)) for path in context.rglob("*") if path.is_file()}
    assert {"pyproject.toml", "README.md", "LICENSE", *FILES} <= files
    folders = r"(pgslot|exporter|healer|alerts/runbooks|deploy/docker|deploy/share)/.+"
    allowed = rf"pyproject\.toml|README\.md|LICENSE|CHANGELOG\.md|alerts/pgslot\.rules\.yml|{folders}"
    assert [path for path in files if not re.fullmatch(allowed, path)] == []
    code = [f"pgslot/config/{name}.py" for name in ("secret_files", "secret_permissions", "secrets")]
    assert sorted(path for path in files if "secret" in path) == code, "its code, and no secret"
    assert not any(path.endswith(".pyc") for path in files)


@pytest.mark.parametrize("program", ["pg-slot-exporter", "pg-slot-healer"])
@pytest.mark.tools
def test_built_environment_has_both_programs_and_no_pip(installed: Path, program: str) -> None:
    done = subprocess.run(
        [installed / "bin" / program, "--version"], check=False, capture_output=True, text=True, timeout=30, cwd="/"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not list((installed / "bin").glob("pip*"))


@pytest.mark.tools
def test_built_environment_has_sql_runbooks_and_manual_pages(installed: Path) -> None:
    [library] = (installed / "lib").glob("python*/site-packages")
    queries = "pgslot/snapshot/queries"
    sql = {path.name for path in (ROOT / queries).glob("*.sql")}
    assert sql
    assert {path.name for path in (library / queries).glob("*.sql")} == sql
    runbooks = {path.name for path in (ROOT / "alerts/runbooks").glob("*.md")}
    assert {path.name for path in (library / "exporter/runbooks").glob("*.md")} == runbooks
    for page in ("pg-slot-exporter.1", "pg-slot-healer.1"):
        assert (installed / "share/man/man1" / page).is_file()


def test_last_stage_is_slim_and_runs_without_root() -> None:
    [argument] = arguments_of("ARG")
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", argument)
    assert arguments_of("FROM") == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]
    last = STEPS[max(number for number, (keyword, _) in enumerate(STEPS) if keyword == "FROM") :]
    assert "RUN" not in [keyword for keyword, _ in last]  # nothing is installed in this stage
    [user] = arguments_of("USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    for target in ("/opt/pgslot", "/opt/pgslot/healthcheck.py"):
        assert any(argument.split()[-1] == target for keyword, argument in last if keyword == "COPY")


PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""The pins are for the image and for any Python that `make setup` uses: some packages are for older versions only."""


def applies_to_any_python(requirement: Requirement) -> bool:
    versions = ({"python_version": python, "python_full_version": f"{python}.0", "extra": ""} for python in PYTHONS)
    return requirement.marker is None or any(requirement.marker.evaluate(version) for version in versions)


def requirements_of(name: str) -> Iterator[Requirement]:
    """Yield the requirements of an installed package, transitively, on any of PYTHONS."""
    for text in distribution(name).requires or []:
        requirement = Requirement(text)
        if not applies_to_any_python(requirement):
            continue
        yield requirement
        for extra in requirement.extras:
            yield from (
                Requirement(text)
                for text in distribution(requirement.name).requires or []
                if f'extra == "{extra}"' in text.replace("'", '"')
            )
        yield from requirements_of(requirement.name)


def test_every_package_of_image_is_pinned_within_its_range() -> None:
    requirements = [*requirements_of("pg-slot-healer"), *requirements_of("hatchling")]
    requirements += [Requirement(text) for text in PROJECT["build-system"]["requires"]]
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        assert name in PINS, f"{name} is missing in {FILES}"
        assert requirement.specifier.contains(PINS[name]), f"{requirement} and =={PINS[name]}"
    assert set(PINS) == {canonicalize_name(requirement.name) for requirement in requirements}


def test_image_has_nothing_without_a_checksum_but_this_project() -> None:
    for file in FILES:
        for requirement, hashes in pinned(file):
            assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
            assert hashes, requirement
            assert all(re.fullmatch("sha256:[0-9a-f]{64}", value) for value in hashes), requirement
    [step] = arguments_of("RUN")
    from_an_index = [command for command in step.split("&&") if " install " in command and "--no-index" not in command]
    assert len(from_an_index) == len(FILES)
    for command, file in zip(from_an_index, reversed(FILES), strict=True):
        assert "--require-hashes --only-binary=:all:" in command
        assert command.split()[-1] == f"--requirement={file}"


def test_package_with_another_checksum_is_refused(tmp_path: Path) -> None:
    """A package of the right name and version, and not of the right content."""
    version = PINS[canonicalize_name("idna")]
    with zipfile.ZipFile(tmp_path / f"idna-{version}-py3-none-any.whl", "w") as wheel:
        folder = f"idna-{version}.dist-info"
        wheel.writestr(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: idna\nVersion: {version}\n")
        wheel.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{folder}/RECORD", "")
    text = (ROOT / FILES[0]).read_text("utf-8")
    [block] = re.findall(r"^idna==(?:.*\\\n)*.*\n", text, re.MULTILINE)
    (tmp_path / "requirements.txt").write_text(block)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--isolated", "--no-index", f"--find-links={tmp_path}"),
            *("--require-hashes", f"--target={tmp_path / 'target'}", f"--requirement={tmp_path / 'requirements.txt'}"),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "target").exists()


def test_pins_match_installed_versions() -> None:
    """`make setup` installs with the same pins."""
    differing = {}
    for name, version in PINS.items():
        try:
            installed_version = distribution(name).version
        except PackageNotFoundError:
            installed_version = "not installed"
        if installed_version != version:
            differing[name] = (version, installed_version)
    assert differing == {}


Check = Callable[..., int]


@pytest.fixture(scope="module")
def healthcheck() -> dict[str, Callable[..., object]]:
    return runpy.run_path(str(ROOT / "deploy/docker/healthcheck.py"))


@pytest.mark.parametrize(
    ("command", "address"),
    [
        (["/opt/pgslot/bin/python", "/opt/pgslot/bin/pg-slot-exporter"], ("127.0.0.1", 9877)),
        (["/opt/pgslot/bin/python", "/opt/pgslot/bin/pg-slot-healer", "--check"], ("127.0.0.1", 9878)),
        (["docker-init", "--", "pg-slot-healer", "--config.file=/pg-slot-exporter"], ("127.0.0.1", 9878)),
        (["pg-slot-exporter", "--web.listen-address=0.0.0.0:80"], ("127.0.0.1", 80)),
        (["pg-slot-exporter", "--web.listen-address", ":81"], ("127.0.0.1", 81)),
        (["pg-slot-exporter", "--web.listen-address=[::]:82"], ("127.0.0.1", 82)),
        (["pg-slot-exporter", "--web.listen-address=[fd00::1]:83"], ("fd00::1", 83)),
        (["pg-slot-healer", "--web.listen-address=10.0.0.1:84"], ("10.0.0.1", 84)),
    ],
)
def test_health_check_finds_address_of_program(
    healthcheck: dict[str, Callable[..., object]], command: list[str], address: tuple[str, int]
) -> None:
    assert healthcheck["address"](command) == address


@pytest.mark.servers
def test_health_check_command_detects_hung_program(tmp_path: Path) -> None:
    [check] = arguments_of("HEALTHCHECK")
    command = json.loads(check.split("CMD ")[1])
    assert command == ["python", "/opt/pgslot/healthcheck.py"]
    config = tmp_path / "pgslot.yml"
    port = free_port()
    config.write_text(f"clusters: {{a: {{nodes: {{a-1: {{conninfo: 'host=127.0.0.1 port={port}'}}}}}}}}\n", "utf-8")
    program = Program("pg-slot-exporter", config, tmp_path)
    program.start()
    try:
        ask = [sys.executable, str(ROOT / "deploy/docker/healthcheck.py"), str(program.process.pid)]
        assert subprocess.run(ask, check=False, timeout=30, capture_output=True).returncode == 0
        program.process.pause()
        done = subprocess.run(ask, check=False, timeout=30, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (1, "")
        assert "timed out" in done.stdout
    finally:
        program.stop()

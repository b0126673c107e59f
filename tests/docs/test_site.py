"""The documentation as a site, and its generated pages."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.generators.__main__ import FOLDER, PAGES
from docs.generators.site import PICTURE
from tests.support.paths import ROOT

PICTURES = {
    "healer-status": "reference/http-endpoints",
    "exporter-page": "reference/http-endpoints",
    "exporter-slot": "reference/http-endpoints",
    "pgslot-fleet": "how-to/grafana",
    "pgslot-cluster-in-trouble": "how-to/grafana",
    "pgslot-cluster-healed": "how-to/grafana",
    "pgslot-cluster-failover": "how-to/grafana",
}
"""Each picture, and the page of the site that shows it."""


@pytest.mark.parametrize("name", PAGES)
def test_generated_page_is_current(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == PAGES[name](), "run make docs-reference"


@pytest.mark.tools
def test_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Strict mode: a page outside the navigation and a link to nowhere are errors."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert (tmp_path / "reference/runbooks/PgSlotStalled/index.html").is_file()
    for name, page in PICTURES.items():
        shown = (tmp_path / page / "index.html").read_text("utf-8")
        for theme in ("light", "dark"):
            assert (tmp_path / f"pictures/{name}-{theme}.png").is_file()
            assert f'src="../../pictures/{name}-{theme}.png#only-{theme}"' in shown
            assert f'<a href="../../pictures/{name}-{theme}.png">' in shown


def test_picture_follows_the_theme_on_a_code_host_and_in_the_site() -> None:
    """A code host chooses by the browser's preference; the site has a switch of its own."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text("utf-8")
        assert ".png" not in PICTURE.sub("", text), page
        for dark, _, light in PICTURE.findall(text):
            assert dark.replace("-dark.", "-light.") == light, page


def test_pictures_are_sharp_and_small() -> None:
    """README and the site show them at most 1000 pixels wide."""
    files = sorted((ROOT / "dashboards/pictures").glob("*.png"))
    assert {file.stem for file in files} == {f"{name}-{theme}" for name in PICTURES for theme in ("light", "dark")}
    for file in files:
        picture = file.read_bytes()
        assert int.from_bytes(picture[16:20], "big") >= 2000, file.name
        assert len(picture) < 350_000, file.name


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_picture_of_a_terminal_loads_nothing(theme: str) -> None:
    text = (ROOT / f"dashboards/pictures/exporter-status-{theme}.svg").read_text("utf-8")
    assert re.findall(r"(?:url|href=)[(\"']*https?:", text) == []
    assert "What&#160;to&#160;do:" in text
    assert len(text) < 100_000


def test_page_of_doctors_checks_lists_every_check() -> None:
    """The first argument of Finding is the check's name."""
    named = {
        call.args[0].value
        for file in (ROOT / "healer/doctor").rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Finding"
        if call.args and isinstance(call.args[0], ast.Constant)
    }
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs/reference/doctor-checks.md").read_text("utf-8"), re.MULTILINE)
    assert named == {name for row in rows[2:] for name in row.split(", ")}

import re
import shutil
from pathlib import Path

import pytest

from tests.support.helm import CHART


@pytest.fixture
def newer_chart(tmp_path: Path) -> Path:
    """A copy of the chart as a later version, 9.9.9."""
    chart = tmp_path / CHART.name
    shutil.copytree(CHART, chart)
    file = chart / "Chart.yaml"
    file.write_text(re.sub(r"^(version|appVersion): .*", r"\1: 9.9.9", file.read_text("utf-8"), flags=re.MULTILINE))
    return chart

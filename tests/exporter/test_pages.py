"""The exporter's pages can be read in both colour schemes and used with a keyboard."""

import pytest

from exporter.landing import landing
from exporter.runbooks import runbook, runbook_names
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerSettings, Node
from tests.support.pages import problems

CONFIG = Config((Cluster("c", (Node("c", "n", Conninfo("port=1")),), None),), HealerSettings())


@pytest.mark.parametrize("name", runbook_names())
def test_runbook_is_accessible(name: str) -> None:
    page = runbook(name)
    assert page is not None
    assert problems(page) == []


def test_landing_page_is_accessible() -> None:
    assert problems(landing(CONFIG, lambda _cluster, _node: None, lifecycle=True)) == []


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("<pre>", "<pre> may scroll and cannot be focused"),
        ('<div class="scroll">', "<div> may scroll and cannot be focused"),
        ("<table><tr><th>A<th></table>", "an empty <th>"),
        ("<script>", "<script>, which the Content-Security-Policy forbids"),
        ("<style>:root { --ground: #fff; --text: #aaa }", "text #aaa on ground #fff: contrast 2.3"),
        ("<title>x</title>", "<main> is there 0 times"),
    ],
)
def test_check_of_pages_finds_faults(page: str, problem: str) -> None:
    """Checks the checks above."""
    assert problem in problems(page)

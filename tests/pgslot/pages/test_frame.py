"""The frame of the pages: what a browser may run, and that values are text."""

import base64
import hashlib
import re

from pgslot.pages.frame import REFRESHING_HEADERS, environment, page
from tests.support.pages import problems

HOSTILE = "</title><script>alert(1)</script>"


def refreshing_page() -> str:
    template = environment().from_string('{% extends "frame.html" %}{% block main %}<h1>{{ name }}</h1>{% endblock %}')
    return template.render(refresh_seconds=5, name=HOSTILE)


def test_policy_allows_the_script_and_style_of_the_page_and_nothing_else() -> None:
    policy = dict(part.split(" ", 1) for part in REFRESHING_HEADERS["Content-Security-Policy"].split("; "))
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        [text] = re.findall(f"<{tag}>(.*?)</{tag}>", refreshing_page(), flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[directive] == f"'sha256-{digest}'"
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"


def test_page_that_does_not_refresh_has_no_script() -> None:
    text = page(HOSTILE, "<h1>x</h1>")
    assert problems(text) == []
    assert "script>alert" not in text
    assert "<script" not in text
    assert "<button" not in text


def test_refreshing_page_is_complete_without_its_script() -> None:
    text = refreshing_page()
    assert "<header hidden" in text
    assert HOSTILE not in text

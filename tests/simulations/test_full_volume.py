"""A server's volume is really filled: the alerts come first, and name the slot, and are right about the time."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]


def test_alerts_predict_the_end_of_a_volume_and_end_when_it_is_rescued() -> None:
    """The five situations side by side are `make disk-full`; here a consumer is gone, and another server is rescued."""
    short = ("gone", "--mebibytes=120", "--rate=1500000", "--factor=240", "--timeout=150", "--rescue")
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulations.full_volume", *short],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=450,
    )
    assert done.returncode == 0, done.stderr + done.stdout

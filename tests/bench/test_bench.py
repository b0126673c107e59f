"""`make bench` works in its quick form; speed is not asserted."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.bench.persistence import Trial, persistence_results
from tests.bench.results import Result, at_most, table
from tests.support.paths import ROOT


@pytest.mark.servers
def test_quick_bench_measures_everything(tmp_path: Path) -> None:
    file = tmp_path / "bench.jsonl"
    done = subprocess.run(
        ["make", "bench", "QUICK=1", f"JSON={file}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    for line in lines:
        assert isinstance(line["name"], str)
        assert isinstance(line["unit"], str)
        assert line["value"] >= 0
        assert f"| {line['name']} " in done.stdout
    by_start = {re.split(r"[,:]", line["name"])[0] for line in lines}
    assert by_start == {
        "1 node on loopback",
        "10 nodes on loopback",
        "10 nodes 80 ms away",
        "200 scrapes",
        "scrape",
        "webhook to usable slot on a standby",
        "the same",
        "storm",
        "stuck to usable",
        "again under its name after 1 s",
        "commit of what blocked a standby's creation to usable",
    }
    scrapes = [line for line in lines if re.fullmatch(r"scrape, \d+ slots", line["name"])]
    assert [line["name"] for line in scrapes if "floor" in line] == [line["name"] for line in scrapes if "peer" in line]
    assert len(scrapes) == 4
    # These targets do not depend on the load of the machine.
    for line in lines:
        if "connections" in line["name"] or "locks" in line["name"] or "pages dirtied" in line["name"]:
            assert line["held"], line


def test_json_line_has_reference_under_its_name() -> None:
    result = at_most(3, Result("it", 7.5, "ms", "floor", 2.0))
    assert json.loads(result.as_json()) == {
        "name": "it",
        "value": 7.5,
        "unit": "ms",
        "floor": 2.0,
        "ratio": 3.75,
        "target": "at most 3x",
        "held": False,
    }
    assert json.loads(Result("it", 7.5, "ms").as_json()) == {"name": "it", "value": 7.5, "unit": "ms"}


def test_table_shows_missed_targets() -> None:
    shown = table(
        [at_most(3, Result("slow", 7.5, "ms", "floor", 2.0)), at_most(3, Result("fast", 5, "ms", "floor", 2.0))]
    )
    assert [line.split("|")[-2].strip() for line in shown.splitlines()[2:]] == ["MISSED", "held"]


def test_copies_never_persistent_are_counted_but_not_in_median() -> None:
    trials = [Trial(3.0, 0, "healed"), Trial(None, 0, None), Trial(5.0, 2, "resolved_itself"), Trial(10.0, 0, "healed")]
    results = {result.name: (result.value, result.unit) for result in persistence_results("18", trials, 90.0)}
    assert results == {
        "18: median of 3": (5.0, "s"),
        "18: least": (3.0, "s"),
        "18: most": (10.0, "s"),
        "18: temporary after 90 s": (1, "of 4"),
        "18: reads, median": (0, ""),
        "18: told healed": (2, "of 4"),
    }
    assert [result.name for result in persistence_results("18", [Trial(None, 0, None)], 90.0)] == [
        "18: temporary after 90 s"
    ]

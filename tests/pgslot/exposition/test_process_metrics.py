"""The process's own metrics are prometheus_client's."""

import gc
import os
import resource
from collections.abc import Iterable
from contextlib import suppress

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from pgslot.exposition.families import render
from pgslot.exposition.process_metrics import ProcessMetrics, process_registry
from pgslot.exposition.text_format import Family


def read(families: Iterable[Family | Metric]) -> dict[str, Metric]:
    body, _ = render("", families)
    return {family.name: family for family in text_string_to_metric_families(body.decode())}


def test_they_are_named_described_and_typed_as_there_and_have_the_values_of_now() -> None:
    registry = process_registry()
    ours = ProcessMetrics(registry)
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
    gc.collect()
    theirs, found = read(registry.collect()), read(ours.collect())
    for each in held:
        os.close(each)
    assert list(found) == list(theirs)
    for name, family in theirs.items():
        assert (found[name].type, found[name].documentation) == (family.type, family.documentation)
        for sample, meant in zip(found[name].samples, family.samples, strict=True):
            assert (sample.name, sample.labels) == (meant.name, meant.labels)
            assert sample.value == pytest.approx(meant.value, rel=0.05)
    assert found["process_open_fds"].samples[0].value >= 50
    assert read(ours.collect())["process_open_fds"].samples[0].value < found["process_open_fds"].samples[0].value


def test_without_a_descriptor_left_they_are_absent_and_nothing_fails() -> None:
    ours = ProcessMetrics(process_registry())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        with suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        found = ours.collect()
    finally:
        for each in held:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    names = set(read(found))
    assert "process_open_fds" not in names
    assert {"process_max_fds", "python_info", "python_gc_collections"} <= names

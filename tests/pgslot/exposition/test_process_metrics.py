"""The process's own metrics are those of prometheus_client."""

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


def test_families_and_current_values_are_those_of_prometheus_client() -> None:
    registry = process_registry()
    ours = ProcessMetrics(registry)
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
    gc.collect()
    expected, actual = read(registry.collect()), read(ours.collect())
    for descriptor in held:
        os.close(descriptor)
    assert list(actual) == list(expected)
    for name, family in expected.items():
        assert (actual[name].type, actual[name].documentation) == (family.type, family.documentation)
        for sample, meant in zip(actual[name].samples, family.samples, strict=True):
            assert (sample.name, sample.labels) == (meant.name, meant.labels)
            assert sample.value == pytest.approx(meant.value, rel=0.05)
    assert actual["process_open_fds"].samples[0].value >= 50
    assert read(ours.collect())["process_open_fds"].samples[0].value < actual["process_open_fds"].samples[0].value


def test_metrics_that_need_a_descriptor_are_absent_when_none_is_left() -> None:
    ours = ProcessMetrics(process_registry())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        with suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        collected = ours.collect()
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    names = set(read(collected))
    assert "process_open_fds" not in names
    assert {"process_max_fds", "python_info", "python_gc_collections"} <= names

"""The exporter's own process metrics are on every page, whatever the clusters answer."""

import socket
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pgslot.exposition.process_metrics import process_registry
from tests.support.servers.programs import Program


@pytest.mark.servers
def test_process_metrics_are_served_before_patroni_has_answered(tmp_path: Path) -> None:
    """A scrape of a cluster without nodes never suspends, so it may leave nothing to a later step of the event loop."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        patroni = {"urls": [f"http://127.0.0.1:{silent.getsockname()[1]}"]}
        file = tmp_path / "pgslot.yml"
        file.write_text(yaml.safe_dump({"clusters": {"c": {"patroni": patroni, "conninfo": "user=x"}}}))
        program = Program("pg-slot-exporter", file, tmp_path)
        try:
            program.start()
            text = program.get("/metrics").text
        finally:
            program.stop()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert "pgslot_build_info" in families
    assert not {"pgslot_up", "pgslot_patroni_last_answer_timestamp_seconds"} & set(families)
    expected = {family.name: len(family.samples) for family in process_registry().collect()}
    assert {"process_open_fds", "process_cpu_seconds", "python_info", "python_gc_collections"} <= set(expected)
    assert {name: len(families[name].samples) for name in expected if name in families} == expected

"""pg-slot-exporter and pg-slot-healer with configurations for the bench."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml

from tests.support.servers.programs import Program
from tests.support.servers.stack import Stack


@contextmanager
def running(stack: Stack, name: str, config: Mapping[str, Any]) -> Iterator[Program]:
    """Run pg-slot-exporter or pg-slot-healer with this configuration."""
    file = stack.folder / f"bench-{name}.yml"
    file.write_text(yaml.safe_dump(dict(config), sort_keys=False), "utf-8")
    program = Program(name, file, stack.folder)
    try:
        program.start()
        yield program
    finally:
        program.stop()


def observing(*conninfos: str) -> dict[str, Any]:
    """Return the configuration of an exporter: one cluster, a node for each conninfo."""
    return {"clusters": {"bench": {"nodes": {f"n{i}": {"conninfo": conninfo} for i, conninfo in enumerate(conninfos)}}}}

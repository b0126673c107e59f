"""
The process's own metrics: prometheus_client's families. Only their values are read again for each scrape.

Measured: 0.13 ms of CPU less than prometheus_client's collectors take (3, 1.3 and 0.4 % of a scrape of 10, 200 and
1,000 slots), which open three files in /proc and make forty objects for nineteen numbers.
"""

import gc
import math
import os
import resource
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from pgslot.exposition.families import convert
from pgslot.exposition.text_format import Family, Samples

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = resource.getpagesize()


def process_registry() -> CollectorRegistry:
    """Return prometheus_client's process, platform and garbage collector metrics in a registry of their own."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class ProcessMetrics:
    """The families of a `process_registry()`, with current values at each call of `collect`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        families = [convert(family) for family in registry.collect()]
        self._families = [family for family in families if family is not None]

    def collect(self) -> list[Family]:
        """Return all families with their current values; values that cannot be read are absent."""
        current = {**_process_values(), **_gc_values()}
        return [_with_values(family, current) for family in self._families]


def _with_values(family: Family, current: Mapping[str, Sequence[float | None]]) -> Family:
    name = family.metric.name
    if name not in current:
        return family
    blocks = [Samples(name, block.labels, current[name]) for block in family.blocks if isinstance(block, Samples)]
    return Family(family.metric, blocks)


def _process_values() -> dict[str, tuple[float | None]]:
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        fields = _read("/proc/self/stat").rpartition(b")")[2].split()
        open_fds: int | None = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - pathlib makes an object of each
    except OSError:
        # No descriptor is left to read them with.
        fields, open_fds = [], None
    complete = len(fields) > 21
    cpu_seconds = float(fields[11]) / _TICKS_PER_SECOND + float(fields[12]) / _TICKS_PER_SECOND if complete else None
    return {
        "process_virtual_memory_bytes": (float(fields[20]) if complete else None,),
        "process_resident_memory_bytes": (float(fields[21]) * _PAGE_BYTES if complete else None,),
        "process_cpu_seconds_total": (cpu_seconds,),
        "process_open_fds": (open_fds,),
        "process_max_fds": (math.inf if soft_limit == resource.RLIM_INFINITY else float(soft_limit),),
    }


def _gc_values() -> dict[str, list[float]]:
    generations = gc.get_stats()
    return {
        "python_gc_objects_collected_total": [generation["collected"] for generation in generations],
        "python_gc_objects_uncollectable_total": [generation["uncollectable"] for generation in generations],
        "python_gc_collections_total": [generation["collections"] for generation in generations],
    }


def _read(file: str) -> bytes:
    """Read a small file; io's objects take four times as long as that."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)

"""
The process's own metrics: those of prometheus_client, whose values alone are read anew for each scrape.

It opens three files in /proc and makes forty objects for nineteen numbers: a fifth of the CPU that ten slots take.
"""

import gc
import math
import os
import resource
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from pgslot.exposition.families import converted
from pgslot.exposition.text_format import Family, Samples

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = resource.getpagesize()


def process_registry() -> CollectorRegistry:
    """Return Python's process metrics in a registry of their own."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class ProcessMetrics:
    """All families of the registry, which has prometheus_client's collectors of process, platform and garbage."""

    def __init__(self, registry: CollectorRegistry) -> None:
        families = [converted(family) for family in registry.collect()]
        self._families = [family for family in families if family is not None]
        """Each is one Series."""

    def collect(self) -> list[Family]:
        """Return them with the values of now; what does not change stays as it was."""
        now = {**_of_system(), **_of_garbage()}
        return [_with_values(family, now) for family in self._families]


def _with_values(family: Family, now: Mapping[str, Sequence[float | None]]) -> Family:
    name = family.metric.name
    if name not in now:
        return family
    return Family(
        family.metric, [Samples(name, part.labels, now[name]) for part in family.parts if isinstance(part, Samples)]
    )


def _of_system() -> dict[str, tuple[float | None]]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        fields = _read("/proc/self/stat").rpartition(b")")[2].split()
        open_now: int | None = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - pathlib makes an object of each
    except OSError:
        # No descriptor is left to read them with.
        fields, open_now = [], None
    known = len(fields) > 21
    return {
        "process_virtual_memory_bytes": (float(fields[20]) if known else None,),
        "process_resident_memory_bytes": (float(fields[21]) * _PAGE if known else None,),
        "process_cpu_seconds_total": (float(fields[11]) / _TICKS + float(fields[12]) / _TICKS if known else None,),
        "process_open_fds": (open_now,),
        "process_max_fds": (math.inf if soft == resource.RLIM_INFINITY else float(soft),),
    }


def _of_garbage() -> dict[str, list[float]]:
    generations = gc.get_stats()
    return {
        "python_gc_objects_collected_total": [each["collected"] for each in generations],
        "python_gc_objects_uncollectable_total": [each["uncollectable"] for each in generations],
        "python_gc_collections_total": [each["collections"] for each in generations],
    }


def _read(file: str) -> bytes:
    """Read a small file; io's objects take four times as long as that."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)

"""Fills the volumes side by side until each server has stopped, and records what fired and what was predicted."""

import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import yaml

from tests.simulations.full_volume.rules import faster_rules
from tests.simulations.full_volume.situations import HEALTHY, RESCUED, SCRAPE_SECONDS, Situation, rescued_from_both
from tests.simulations.full_volume.volume import free_bytes, mount_volume, node_exporter, unmount_volume
from tests.support.alert_rules import DISK_RULES, rule_queries
from tests.support.promql import selectors
from tests.support.servers import binaries
from tests.support.servers.monitoring import Prometheus
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import free_port, wait_for
from tests.support.servers.programs import Program
from tests.support.servers.stack import CREATE_EXPORTER, EXPORTER_ROLE

NODE = "db"
LARGER_MEBIBYTES = 300
"""A slot that is read retains what is written in 15 s, which is to be little of its volume; a rescue takes time."""
NOTICE = "PgSlotNoWalLimit"
ON_VOLUMES = {rule["alert"] for rule in DISK_RULES if "alert" in rule}
NOT_HERE = (
    *(
        "pgslot_wal_volume_claim_info",
        "pgslot_wal_volume_size_bytes",
        "slot:pgslot_safe_wal_size_bytes",
        "slot:pgslot_copy",
    ),
    *("pgslot_retention_blocker", "pgslot_retention_candidate", "pgslot_retention_standby", "pgslot_max_slot_wal_keep"),
)
"""Series of other volumes, of limits, and of causes that only the long form has."""
DEFAULTS: dict[str, Any] = {
    # What tests/support/servers/postgres.py sets otherwise.
    "max_slot_wal_keep_size": "-1",
    "checkpoint_timeout": "'5min'",
    "bgwriter_delay": "'200ms'",
    "autovacuum": "on",
    # initdb's own max_wal_size for segments of 1 MB is 64 MB, as it is 1 GB for those of 16 MB: a volume of 300 MB is
    # to this server what 5 GB are to another.
    "wal_segment_size": "1",
    "archive_mode": "on",
    "archive_command": "'true'",
}


@dataclass
class Filling:
    """One volume, from its first byte to its last."""

    situation: Situation
    cluster: str
    server: Postgres
    folder: Path
    room: int
    """Free bytes when it began."""
    fired: dict[str, float] = field(default_factory=dict)
    """By alert: the part of the room that was free when it first fired."""
    texts: dict[str, str] = field(default_factory=dict)
    """By alert: its last description."""
    predicted: tuple[float, float] | None = None
    """When half of the room was still free: the time of that, and in how many seconds the volume is full."""
    ended: float | None = None
    log: str = ""
    """The server's, when it had ended."""

    @property
    def free(self) -> float:
        return free_bytes(self.folder) / self.room

    @property
    def real(self) -> float:
        """In how many seconds the volume was full, from the time of the prediction."""
        assert self.predicted is not None, f"{self.cluster}: nothing was predicted while half was free"
        assert self.ended is not None
        return self.ended - self.predicted[0]

    @property
    def stopped_for_lack_of_space(self) -> bool:
        return "No space left on device" in self.log


@dataclass(frozen=True)
class Run:
    fillings: Sequence[Filling]
    on_healthy: set[str]
    """Alerts that fired about the healthy server, but for notices."""
    rescued: Filling | None
    """The server that was rescued when every alert fired about it; its alerts have ended."""
    missing: Sequence[str]
    """Selectors of the rules about volumes that matched no series."""


def fill(
    situations: Sequence[Situation], *, mebibytes: int, rate: int, factor: int, timeout: float, rescue: bool = False
) -> Run:
    """
    Write `rate` bytes a second on a server of each situation, with volumes of so many mebibytes, until all have ended.

    The times of the rules are divided by `factor`. With `rescue` one more server is rescued from two situations at the
    same time, when every alert has fired. Raises TimeoutError.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgslot-", ignore_cleanup_errors=True)))
        folder.chmod(0o755)
        fillings = []
        for number, situation in enumerate([*situations, *([RESCUED] if rescue else []), HEALTHY]):
            cluster = {HEALTHY: "healthy", RESCUED: "rescued"}.get(situation, f"volume{number}")
            size = mebibytes if situation in situations else max(mebibytes, LARGER_MEBIBYTES)
            fillings.append(_server(stack, folder, cluster, situation, size))
        volumes = {filling.cluster: filling.folder for filling in fillings}
        prometheus = _monitoring(stack, folder, fillings, stack.enter_context(node_exporter(volumes)), factor)
        for filling in fillings:
            stack.enter_context(filling.situation.filling(filling.server))
            filling.room = free_bytes(filling.folder)
        for filling in fillings:
            stack.enter_context(_writing(filling, rate))
        filled = [filling for filling in fillings if filling.situation not in (HEALTHY, RESCUED)]
        rescued = next((filling for filling in fillings if filling.situation is RESCUED), None)
        healthy = fillings[-1]
        deadline = time.monotonic() + timeout
        while any(filling.ended is None for filling in filled):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not full within {timeout:.0f} s: {[filling.cluster for filling in filled]}")
            _observe(prometheus, fillings)
            time.sleep(0.5)
        if rescued is not None:
            _rescue(prometheus, rescued)
        for filling in filled:
            filling.log = filling.server.process.log.read_text("utf-8", "replace")
        assert healthy.ended is None, healthy.server.process.log.read_text("utf-8", "replace")[-2000:]
        return Run(filled, set(healthy.fired), rescued, _missing(prometheus) if rescue else ())


def _rescue(prometheus: Prometheus, rescued: Filling) -> None:
    """Wait until every alert has fired about the server, rescue it, and wait until they have ended."""

    def firing() -> set[str]:
        return {
            alert["labels"]["alertname"]
            for alert in prometheus.alerts()
            if alert["state"] == "firing" and alert["labels"].get("cluster") == rescued.cluster
        }

    def all_have_fired() -> bool:
        _observe(prometheus, [rescued])
        return ON_VOLUMES - {NOTICE} <= rescued.fired.keys() and NOTICE in firing()

    wait_for(all_have_fired, f"all of {sorted(ON_VOLUMES)} fire", timeout=120)
    rescued_from_both(rescued.server)
    wait_for(lambda: not firing() & ON_VOLUMES, "the alerts end", timeout=150)


def _missing(prometheus: Prometheus) -> list[str]:
    """Return the selectors of the rules, but for NOT_HERE, that matched no series."""
    wanted = {f"{selector}" for _, query in rule_queries(DISK_RULES) for selector in selectors(query)}
    return sorted(
        selector
        for selector in wanted
        if not selector.startswith(NOT_HERE) and not prometheus.query(f"present_over_time({selector}[1h])")
    )


def _server(stack: ExitStack, folder: Path, cluster: str, situation: Situation, mebibytes: int) -> Filling:
    place = folder / cluster
    mount_volume(place, mebibytes)
    stack.callback(unmount_volume, place)
    # The server's log has to have room when the volume has none.
    (place / "data.log").symlink_to(folder / f"{cluster}.log")
    server = Postgres.primary(binaries.find(folder), place, "data", **DEFAULTS)
    stack.callback(server.kill)
    server.sql(CREATE_EXPORTER)
    return Filling(situation, cluster, server, place, free_bytes(place))


def _monitoring(stack: ExitStack, folder: Path, fillings: Iterable[Filling], volumes: str, factor: int) -> Prometheus:
    """Start the exporter and Prometheus, with the shipped rules in less time, and return Prometheus."""
    config = {
        "clusters": {
            filling.cluster: {
                "nodes": {
                    NODE: {
                        "conninfo": filling.server.conninfo(EXPORTER_ROLE),
                        "wal_volume_labels": {"instance": volumes, "mountpoint": filling.cluster},
                    }
                }
            }
            for filling in fillings
        }
    }
    file = folder / "pgslot.yml"
    file.write_text(yaml.safe_dump(config), "utf-8")
    exporter = Program("pg-slot-exporter", file, folder)
    stack.callback(exporter.stop)
    exporter.start()
    nowhere = f"127.0.0.1:{free_port()}"
    addresses = {
        "exporter:9877": f"127.0.0.1:{exporter.port}",
        "healer:9878": nowhere,
        "alertmanager:9093": nowhere,
    }
    prometheus = Prometheus(folder, addresses, {})
    home = folder / "prometheus"
    (home / "pgslot.rules.yml").write_text(faster_rules(factor), "utf-8")
    scrapes = yaml.safe_load((home / "prometheus.yml").read_text("utf-8"))
    # A second is too short for the exporter to list the WAL directory as well.
    scrapes["global"] |= {"scrape_interval": f"{SCRAPE_SECONDS}s", "scrape_timeout": f"{SCRAPE_SECONDS}s"}
    scrapes["scrape_configs"].append({"job_name": "node", "static_configs": [{"targets": [volumes]}]})
    (home / "prometheus.yml").write_text(yaml.safe_dump(scrapes), "utf-8")
    stack.callback(prometheus.stop)
    prometheus.start()
    wait_for(lambda: prometheus.query("node:pgslot_wal_volume_free_bytes:min"), "the volumes are known")
    return prometheus


@contextmanager
def _writing(filling: Filling, rate: int) -> Iterator[None]:
    """Write in a thread until the server has ended; that is when the volume was full."""
    stop = threading.Event()
    text = "x" * (rate // 10)

    def write() -> None:
        with suppress(psycopg.Error), psycopg.connect(filling.server.conninfo(), autocommit=True) as session:
            due = time.monotonic()
            while not stop.is_set():
                session.execute("SELECT pg_catalog.pg_logical_emit_message(true, 'load', %s)", [text])
                due += 0.1
                stop.wait(max(0.0, due - time.monotonic()))
        if not stop.is_set():
            filling.ended = time.time()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _observe(prometheus: Prometheus, fillings: Iterable[Filling]) -> None:
    by_cluster = {filling.cluster: filling for filling in fillings if filling.ended is None}
    for alert in prometheus.alerts():
        labels = alert["labels"]
        filling = by_cluster.get(labels.get("cluster", ""))
        if filling is not None and alert["state"] == "firing" and labels["severity"] != "info":
            filling.fired.setdefault(labels["alertname"], filling.free)
            filling.texts[labels["alertname"]] = " ".join(alert["annotations"]["description"].split())
    for series in prometheus.query("node:pgslot_wal_volume_full:seconds15m"):
        filling = by_cluster.get(series["metric"]["cluster"])
        # The last prediction while half is still free.
        if filling is not None and filling.free > 0.5 and filling.fired:
            filling.predicted = time.time(), float(series["value"][1])

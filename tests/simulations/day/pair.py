"""A primary and its standby that can change roles and stream through proxies that can be cut."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.servers.processes import Process, wait_for
from tests.support.servers.proxy import Fault, Proxy
from tests.support.servers.stack import PRIMARY_NODE, STANDBY_NODE, Stack

SETTINGS = {
    # Natural records are rare, so most creations finish by the healer's records.
    "bgwriter_delay": "'10s'",
    "wal_retrieve_retry_interval": "'500ms'",
    # The log has every statement before it runs, whoever sends it and whatever its result.
    "log_statement": "'all'",
    "log_replication_commands": "on",
    "log_line_prefix": "'@%n|%p|%q%u|%a|'",
}


def rotate(process: Process) -> None:
    """Rename the log that the process has written so far, which its next start would overwrite."""
    log = process.log
    if log.exists():
        log.rename(log.with_name(f"{log.stem}.{len(logs_of(process))}{log.suffix}"))


def logs_of(process: Process) -> list[Path]:
    """Return the logs of all starts, oldest first."""
    log = process.log
    kept = sorted(log.parent.glob(f"{log.stem}.*{log.suffix}"), key=lambda file: int(file.suffixes[0][1:]))
    return [*kept, log] if log.exists() else kept


class Pair:
    """A context, on a stack whose databases have been started with SETTINGS."""

    def __init__(self, stack: Stack) -> None:
        self.nodes = {PRIMARY_NODE: stack.primary, STANDBY_NODE: stack.standby}
        self.leader, self.follower = PRIMARY_NODE, STANDBY_NODE
        self._proxies = {node: Proxy(server.port) for node, server in self.nodes.items()}
        """The proxy in front of each server, for its standby."""
        self._open = ExitStack()

    def __enter__(self) -> Self:
        for proxy in self._proxies.values():
            self._open.enter_context(proxy)
        standby = self.nodes[self.follower]
        standby.configure(self._standby_settings(self.follower, self.leader))
        self._create_slot(self.leader, self.follower)
        standby.sql("SELECT pg_catalog.pg_reload_conf()")
        self.until_streaming()
        self._drop_inactive_slots(self.leader)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._open.close()

    def stop(self, node: str, *, crash: bool = False) -> None:
        (self.nodes[node].kill if crash else self.nodes[node].stop)()

    def start(self, node: str) -> None:
        server = self.nodes[node]
        rotate(server.process)
        server.start()

    def cut(self, fault: Fault) -> None:
        """Set a fault between the standby and its primary; after NONE the standby's next attempt connects."""
        proxy = self._proxies[self.leader]
        proxy.set(fault)
        if fault is Fault.NONE:
            proxy.cut()

    def switch_over(self) -> None:
        """Change roles after a clean stop of the primary; no write is lost."""
        self.until_streaming()
        self.stop(self.leader)
        self._promote()
        old = self.nodes[self.follower]
        (old.data_folder / "standby.signal").touch()
        old.configure(self._standby_settings(self.follower, self.leader))
        self.start(self.follower)
        # Drop the physical slot that it had as a primary.
        self._drop_inactive_slots(self.follower)
        self.until_streaming()

    def fail_over(self) -> None:
        """Crash the primary, promote the standby, and rebuild the old primary from it; unreplicated WAL is lost."""
        self.stop(self.leader, crash=True)
        self._promote()
        new, old = self.nodes[self.leader], self.nodes[self.follower]
        shutil.rmtree(old.data_folder)
        old.make_data_folder()
        programs = old.binaries
        source = f"host=127.0.0.1 port={new.port} user=postgres"
        programs.run(
            programs.tools / "pg_basebackup",
            *("-d", source, "-D", old.data_folder, "-S", _slot(self.follower), "-c", "fast", "--no-sync"),
        )
        (old.data_folder / "standby.signal").touch()
        old.configure(self._standby_settings(self.follower, self.leader))
        self.start(self.follower)
        self.until_streaming()

    def until_streaming(self) -> None:
        """Wait until the standby streams and has received all WAL."""
        leader, follower = self.nodes[self.leader], self.nodes[self.follower]
        wait_for(
            lambda: (
                follower.sql("SELECT 1 FROM pg_catalog.pg_stat_wal_receiver WHERE status = 'streaming'")
                and leader.sql(
                    "SELECT 1 FROM pg_catalog.pg_stat_replication"
                    " WHERE state = 'streaming' AND flush_lsn >= pg_catalog.pg_current_wal_flush_lsn()"
                )
            ),
            f"{self.follower} streams from {self.leader}",
            log=follower.process.log,
        )

    def _promote(self) -> None:
        """Make the standby the primary; remove all faults."""
        for proxy in self._proxies.values():
            proxy.set(Fault.NONE)
        promoted = self.nodes[self.follower].sql("SELECT pg_catalog.pg_promote(true, 60)")
        assert promoted == [(True,)], f"{self.follower} is not promoted"
        self.leader, self.follower = self.follower, self.leader
        self._create_slot(self.leader, self.follower)

    def _create_slot(self, leader: str, follower: str) -> None:
        self.nodes[leader].sql(
            "SELECT pg_catalog.pg_create_physical_replication_slot(%s, true) WHERE NOT EXISTS"
            " (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = %s)",
            [_slot(follower)] * 2,
        )

    def _drop_inactive_slots(self, node: str) -> None:
        self.nodes[node].sql(
            "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots"
            " WHERE slot_type = 'physical' AND NOT active"
        )

    def _standby_settings(self, node: str, leader: str) -> dict[str, str]:
        source = f"host=127.0.0.1 port={self._proxies[leader].port} user=postgres application_name={node}"
        return {"primary_conninfo": f"'{source}'", "primary_slot_name": f"'{_slot(node)}'"}


def _slot(node: str) -> str:
    return node.replace("-", "_")

"""A real Patroni cluster on loopback: etcd, and Patroni processes that create and run their servers."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.support.servers import binaries
from tests.support.servers.binaries import Binaries
from tests.support.servers.postgres import SETTINGS, Postgres
from tests.support.servers.processes import Process, free_port, wait_for

SCOPE = "orders"
_PACE = {"ttl": 20, "loop_wait": 1, "retry_timeout": 3}
"""Seconds; the minimum that Patroni accepts. A killed leader is detected after `ttl`."""


class Etcd:
    """A single etcd server."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        client, peer = (f"http://127.0.0.1:{port}" for port in (self.port, free_port()))
        self.process = Process(
            [
                *("etcd", "--data-dir", folder / "etcd", "--unsafe-no-fsync"),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", f"default={peer}"),
            ],
            folder / "etcd.log",
        )
        self._health = f"{client}/health"

    def start(self) -> None:
        self.process.start()
        wait_for(self._healthy, "etcd is healthy", log=self.process.log)

    def _healthy(self) -> bool:
        with suppress(requests.RequestException):
            return bool(requests.get(self._health, timeout=5).json()["health"] == "true")
        return False


class Member(Postgres):
    """A server that Patroni creates, starts and stops; `process` is that of Patroni."""

    def __init__(self, programs: Binaries, folder: Path, name: str, etcd: Etcd) -> None:
        super().__init__(programs, folder, name)
        self.api = f"http://127.0.0.1:{free_port()}"
        config = folder / f"{name}.yml"
        config.write_text(yaml.safe_dump(self._patroni(programs, etcd), sort_keys=False), "utf-8")
        command: list[str | Path] = [sys.executable, "-m", "patroni", config]
        if programs.user is not None:
            # PostgreSQL does not run as root, and another user may have no access to Python, as below /root.
            user = f"{programs.user}"
            capability = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
            command = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--pdeathsig=TERM", *capability]
            command += ["--", sys.executable, "-m", "patroni", config]
        self.process = Process(command, folder / f"{name}.log")
        self.make_data_folder()

    def start(self) -> None:
        """Start Patroni, without a wait for its server."""
        self.process.start()

    def stop(self) -> None:
        """Stop Patroni, which stops its server."""
        self.process.stop(timeout=30)

    def kill(self) -> None:
        """End Patroni and its server at once, as in a crash of the machine."""
        postmaster = self._postmaster
        self.process.kill()
        os.kill(postmaster, signal.SIGQUIT)
        wait_for(lambda: not Path(f"/proc/{postmaster}").exists(), f"{self.name} is gone")

    def ask(self, path: str) -> Any:
        """Return the answer of Patroni's REST API; None if it does not answer."""
        with suppress(requests.RequestException):
            return requests.get(f"{self.api}/{path}", timeout=5).json()
        return None

    @property
    def _postmaster(self) -> int:
        return int((self.data_folder / "postmaster.pid").read_text("ascii").split("\n")[0])

    def _pids(self) -> list[int]:
        """Return the pids of the server; `process` is that of Patroni."""
        children = Path(f"/proc/{self._postmaster}/task/{self._postmaster}/children").read_text("ascii")
        return [self._postmaster, *map(int, children.split())]

    def _patroni(self, programs: Binaries, etcd: Etcd) -> dict[str, Any]:
        address = f"127.0.0.1:{self.port}"
        api = self.api.removeprefix("http://")
        parameters = {name: value.strip("'") for name, value in SETTINGS.items() if name != "listen_addresses"}
        return {
            "scope": SCOPE,
            "name": self.name,
            "etcd3": {"host": f"127.0.0.1:{etcd.port}"},
            "restapi": {"listen": api, "connect_address": api},
            "bootstrap": {
                # Patroni drops unknown slots unless they are listed here.
                "dcs": {**_PACE, "ignore_slots": [{"type": "logical"}], "postgresql": {"parameters": parameters}},
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, {"auth": "trust"}, "no-sync"],
            },
            "postgresql": {
                "listen": address,
                "connect_address": address,
                "data_dir": str(self.data_folder),
                "bin_dir": str(programs.server),
                "pgpass": str(self.data_folder.with_suffix(".pgpass")),
                "authentication": {"superuser": {"username": "postgres"}, "replication": {"username": "postgres"}},
                "pg_hba": ["host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"],
                "parameters": {"unix_socket_directories": ""},
            },
        }


class PatroniCluster:
    """The members of a cluster; any live member reports the states of all."""

    def __init__(self, folder: Path, etcd: Etcd) -> None:
        self._folder = folder
        self._etcd = etcd
        self._programs = binaries.find(folder)
        self.members: dict[str, Member] = {}

    @property
    def urls(self) -> list[str]:
        return [member.api for member in self.members.values()]

    def add(self, *names: str) -> None:
        """Start more members, and wait until each runs as the leader or streams from it."""
        for name in names:
            member = self.members[name] = Member(self._programs, self._folder, name, self._etcd)
            member.start()
        self.wait_until_streaming(*names)

    def stop(self) -> None:
        """Stop all running members at the same time."""
        for member in self.members.values():
            member.process.resume()
            member.process.send(signal.SIGTERM)
        for member in self.members.values():
            member.stop()

    def states(self) -> dict[str, tuple[str, str]]:
        """Return role and state of each member, by the first member that answers."""
        for member in self.members.values():
            if member.process.running and (answer := member.ask("cluster")):
                return {entry["name"]: (entry["role"], entry["state"]) for entry in answer["members"]}
        return {}

    def leader(self) -> Member:
        """Wait for a leader that accepts writes; return it."""

        def writable_leader() -> Member | None:
            name = next((name for name, state in self.states().items() if state == ("leader", "running")), None)
            member = self.members.get(name or "")
            return member if member is not None and (member.ask("patroni") or {}).get("role") == "primary" else None

        return wait_for(writable_leader, "there is a leader", timeout=60)

    def replicas(self) -> list[Member]:
        return [self.members[name] for name, (role, _) in self.states().items() if role == "replica"]

    def wait_until_streaming(self, *names: str) -> None:
        """Wait until these members run as the leader, or stream from it."""
        healthy = {("leader", "running"), ("replica", "streaming")}
        log = self.members[names[0]].process.log
        wait_for(lambda: all(self.states().get(name) in healthy for name in names), f"{names} stream", 60, log)

    def switch_over(self, to: Member) -> None:
        """Make another member the leader by a switchover."""
        body = {"leader": self.leader().name, "candidate": to.name}
        answer = requests.post(f"{to.api}/switchover", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        wait_for(lambda: self.leader() is to, f"{to.name} leads")


@contextmanager
def patroni_cluster(folder: Path, *names: str) -> Iterator[PatroniCluster]:
    """Start etcd and these members, the first of which becomes the leader."""
    with ExitStack() as cleanup:
        etcd = Etcd(folder)
        cleanup.callback(etcd.process.stop)
        etcd.start()
        cluster = PatroniCluster(folder, etcd)
        cleanup.callback(cluster.stop)
        cluster.add(names[0])
        cluster.add(*names[1:])
        yield cluster

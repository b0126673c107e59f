"""
Cluster members as Patroni lists them, merged into the configuration, which itself stays as the file has it.

Each cluster is polled in the background, independently of the others. Scrapes and heals use the last answer and never
wait for the next one; while Patroni does not answer, the last answer stays in use.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pgslot.cli.logging import get_logger
from pgslot.config.conninfo import MemberAddresses
from pgslot.config.model import Cluster, Config, Node, PatroniConfig
from pgslot.config.reload import ConfigReloader
from pgslot.patroni.answer import Answer
from pgslot.patroni.client import NoAnswerError, fetch_members
from pgslot.patroni.deadlines import STARTUP_JITTER_SECONDS
from pgslot.task_supervisor import TaskSupervisor

log = get_logger(__name__)


@dataclass(slots=True)
class ClusterDiscovery:
    """The members of one cluster, as far as known."""

    patroni: PatroniConfig
    addresses: MemberAddresses = field(default_factory=MemberAddresses)
    answer: Answer | None = None
    """The last answer; None before the first."""
    answered_at: float | None = None
    """Unix time of the last answer; None before the first."""
    up: bool | None = None
    """Whether the last poll had an answer; None before the first poll."""
    url: str = ""
    """The URL that gave the last answer; the next poll tries it first."""

    async def refresh(self) -> None:
        """Poll once. Raises NoAnswerError, with everything left as it was."""
        others = [url for url in self.patroni.urls if url != self.url]
        self.url, answer = await fetch_members(self.patroni, [self.url, *others] if self.url else others)
        last_identifier = None if self.answer is None else self.answer.system_identifier
        self.answer = replace(answer, system_identifier=answer.system_identifier or last_identifier)
        self.addresses.addresses = tuple((member.host, member.port) for member in answer.members)
        self.answered_at = time.time()

    def with_members(self, cluster: Cluster) -> Cluster:
        """Return the cluster with the members as its nodes, and as hosts of a healer's conninfo without a host."""
        healer = cluster.healer
        if healer is not None:
            healer = healer.with_members(self.addresses)
        if self.answer is None or cluster.member is None:
            return replace(cluster, healer=healer)
        nodes = tuple(
            Node(
                cluster.name,
                member.name,
                cluster.member.at(member.host, member.port),
                cluster.wal_volume.at(member.name),
            )
            for member in self.answer.members
        )
        return replace(cluster, nodes=nodes, healer=healer, system_identifier=self.answer.system_identifier)


class DiscoveryStatus(NamedTuple):
    """How the discovery of one cluster's members stands."""

    cluster: str
    up: bool
    """Whether Patroni answered the last poll."""
    answered_at: float | None
    """Unix time of the last answer; None before the first."""
    members: int | None
    """Members of that answer."""


class Discovery:
    """The configuration in force, with the members that Patroni lists; kept up to date while `run` runs."""

    def __init__(self, configuration: ConfigReloader) -> None:
        self._listeners: list[Callable[[Config], None]] = []
        self._clusters: dict[str, ClusterDiscovery] = {}
        self._tasks = TaskSupervisor()
        self._polls: dict[str, asyncio.Task[None]] = {}
        """By cluster."""
        self._running = False
        self._file = configuration.config
        self.config = configuration.config
        self._reconfigure(configuration.config)
        configuration.on_change(self._reconfigure)

    @property
    def complete(self) -> bool:
        """Whether every cluster has been polled since the start, with an answer or without."""
        return all(cluster.up is not None for cluster in self._clusters.values())

    def on_change(self, listener: Callable[[Config], None]) -> None:
        """Call `listener` with every new configuration, and whenever members have come, gone or moved."""
        self._listeners.append(listener)

    async def run(self, _app: object = None) -> AsyncIterator[None]:
        """Poll from now on, until the end of the context."""
        self._running = True
        self._start_polls()
        yield
        self._running = False
        self._polls.clear()
        await self._tasks.close()

    def statuses(self, only: str | None = None) -> Iterator[DiscoveryStatus]:
        """Yield the status of every cluster that has been polled, or of the cluster `only`."""
        for name, cluster in self._clusters.items():
            if only in (None, name) and cluster.up is not None:
                members = None if cluster.answer is None else len(cluster.answer.members)
                yield DiscoveryStatus(name, cluster.up, cluster.answered_at, members)

    def _reconfigure(self, config: Config) -> None:
        self._file = config
        configured = {cluster.name: cluster.patroni for cluster in config.clusters if cluster.patroni is not None}
        for name, cluster in list(self._clusters.items()):
            if configured.get(name) != cluster.patroni:
                if name in self._polls:
                    self._polls.pop(name).cancel()
                del self._clusters[name]
        self._clusters |= {
            name: ClusterDiscovery(patroni) for name, patroni in configured.items() if name not in self._clusters
        }
        if self._running:
            self._start_polls()
        self._publish()

    def _publish(self) -> None:
        self.config = apply_members(self._file, self._clusters)
        for listener in self._listeners:
            listener(self.config)

    def _start_polls(self) -> None:
        new = [(name, cluster) for name, cluster in self._clusters.items() if name not in self._polls]
        for number, (name, cluster) in enumerate(new):
            delay = number * min(STARTUP_JITTER_SECONDS, cluster.patroni.interval / len(new))
            self._polls[name] = self._tasks.start(self._poll(name, cluster, delay), f"members of {name}")

    async def _poll(self, name: str, cluster: ClusterDiscovery, delay: float) -> None:
        await asyncio.sleep(delay)
        while True:
            await self._poll_once(name, cluster)
            await asyncio.sleep(cluster.patroni.interval)

    async def _poll_once(self, name: str, cluster: ClusterDiscovery) -> None:
        last_answer, was_up = cluster.answer, cluster.up
        try:
            await cluster.refresh()
            cluster.up = True
        except NoAnswerError as error:
            _failed(name, cluster, str(error))
        except Exception:
            _failed(name, cluster, "internal error, see below")
            log.exception("internal error while processing Patroni's answer")
        if cluster.up and not was_up:
            log.info("asked Patroni for the members", cluster=name, url=cluster.url)
        if cluster.answer is not None and cluster.answer != last_answer:
            _log_changes(name, last_answer, cluster.answer)
            self._publish()


def apply_members(config: Config, clusters: dict[str, ClusterDiscovery]) -> Config:
    """Return the configuration with the discovered members of these clusters, by name, as their nodes."""
    return replace(
        config,
        clusters=tuple(
            clusters[cluster.name].with_members(cluster) if cluster.name in clusters else cluster
            for cluster in config.clusters
        ),
    )


async def discover_once(config: Config, names: Collection[str] | None = None) -> tuple[Config, dict[str, str]]:
    """
    Poll these clusters once, None for all of them; for commands that end.

    Returns the configuration with the members, and for each cluster without an answer the reason.
    """
    clusters = {
        cluster.name: ClusterDiscovery(cluster.patroni)
        for cluster in config.clusters
        if cluster.patroni is not None and (names is None or cluster.name in names)
    }
    outcomes = await asyncio.gather(*(cluster.refresh() for cluster in clusters.values()), return_exceptions=True)
    errors = {}
    for name, outcome in zip(clusters, outcomes, strict=True):
        if isinstance(outcome, NoAnswerError):
            errors[name] = str(outcome)
        elif outcome is not None:
            raise outcome
    return apply_members(config, clusters), errors


def _failed(name: str, cluster: ClusterDiscovery, error: str) -> None:
    """Log that Patroni does not answer, once until it answers again."""
    if cluster.up is not False:
        text = "Patroni did not list the members, the last known members stay"
        log.warning(text, cluster=name, error=error)
    cluster.up = False


def _log_changes(name: str, before: Answer | None, now: Answer) -> None:
    members = {member.name: member for member in now.members}
    past = {member.name: member for member in before.members} if before is not None else {}
    come, gone = sorted(members.keys() - past.keys()), sorted(past.keys() - members.keys())
    moved = sorted(member for member in members.keys() & past.keys() if members[member] != past[member])
    fields = {"come": come or None, "gone": gone or None, "moved": moved or None, "left_out": now.left_out or None}
    level = logging.WARNING if now.left_out else logging.INFO
    log.log(level, "the members have changed", cluster=name, members=len(members), **fields)

"""
The members that Patroni tells of, beside the configuration, which is as its file says.

Each cluster is asked about by itself, in the background: whoever looks at servers goes by the last answer, and never
waits for the next one. It is kept for as long as nobody answers.
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

STARTUP_JITTER = 0.02
"""Seconds between the first questions about two clusters, at most."""

log = get_logger(__name__)


@dataclass(slots=True)
class ClusterDiscovery:
    """What is known of one cluster's members."""

    patroni: PatroniConfig
    whereabouts: MemberAddresses = field(default_factory=MemberAddresses)
    answer: Answer | None = None
    """The last one; None before the first."""
    answered: float | None = None
    """Its Unix time."""
    up: bool | None = None
    """Whether the last question had an answer. None before the first question."""
    url: str = ""
    """Who gave it, and is asked first."""
    task: asyncio.Task[None] | None = None

    async def ask(self) -> None:
        """Ask once; raises NoAnswerError, with everything left as it was."""
        others = [url for url in self.patroni.urls if url != self.url]
        self.url, answer = await fetch_members(self.patroni, [self.url, *others] if self.url else others)
        before = None if self.answer is None else self.answer.system_identifier
        self.answer = replace(answer, system_identifier=answer.system_identifier or before)
        self.whereabouts.addresses = tuple((member.host, member.port) for member in answer.members)
        self.answered = time.time()

    def with_members(self, cluster: Cluster) -> Cluster:
        """Return the cluster with the members as its nodes; the healer's conninfo leads to them where it says none."""
        target = cluster.healer
        if target is not None:
            target = target.with_members(self.whereabouts)
        if self.answer is None or cluster.member is None:
            return replace(cluster, healer=target)
        nodes = tuple(
            Node(cluster.name, each.name, cluster.member.at(each.host, each.port)) for each in self.answer.members
        )
        return replace(cluster, nodes=nodes, healer=target, system_identifier=self.answer.system_identifier)


class DiscoveryStatus(NamedTuple):
    """How discovery of one cluster's members stands."""

    cluster: str
    up: bool
    """Whether Patroni answered the last question."""
    answered_at: float | None
    """Unix time of the last answer; None before the first."""
    members: int | None
    """Members of that answer."""


class Discovery:
    """The configuration in force with the members that are known; `run` it for as long as it shall be kept up."""

    def __init__(self, configuration: ConfigReloader) -> None:
        self._apply: list[Callable[[Config], None]] = []
        self._known: dict[str, ClusterDiscovery] = {}
        self._running = False
        self._file = configuration.config
        self.config = configuration.config
        self._configured(configuration.config)
        configuration.on_change(self._configured)

    @property
    def complete(self) -> bool:
        """Each cluster has been asked about since the start, with whatever came of it."""
        return all(known.up is not None for known in self._known.values())

    def on_change(self, apply: Callable[[Config], None]) -> None:
        """Call this with each new configuration, and when members have come, gone or moved."""
        self._apply.append(apply)

    async def run(self, _app: object = None) -> AsyncIterator[None]:
        """Ask from now on, until the end of the context."""
        self._running = True
        self._start()
        yield
        self._running = False
        tasks = [known.task for known in self._known.values() if known.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def statuses(self, only: str | None = None) -> Iterator[DiscoveryStatus]:
        """Return how the last question about each cluster, or about `only` this one, ended; none before the first."""
        for name, known in self._known.items():
            if only in (None, name) and known.up is not None:
                members = None if known.answer is None else len(known.answer.members)
                yield DiscoveryStatus(name, known.up, known.answered, members)

    def _configured(self, config: Config) -> None:
        self._file = config
        wanted = {cluster.name: cluster.patroni for cluster in config.clusters if cluster.patroni is not None}
        for name, known in list(self._known.items()):
            if wanted.get(name) != known.patroni:
                if known.task is not None:
                    known.task.cancel()
                del self._known[name]
        self._known |= {name: ClusterDiscovery(patroni) for name, patroni in wanted.items() if name not in self._known}
        if self._running:
            self._start()
        self._put_in_force()

    def _put_in_force(self) -> None:
        self.config = apply_members(self._file, self._known)
        for apply in self._apply:
            apply(self.config)

    def _start(self) -> None:
        new = [(name, known) for name, known in self._known.items() if known.task is None]
        for number, (name, known) in enumerate(new):
            delay = number * min(STARTUP_JITTER, known.patroni.interval / len(new))
            known.task = asyncio.create_task(self._watch(name, known, delay), name=f"members of {name}")

    async def _watch(self, name: str, known: ClusterDiscovery, delay: float) -> None:
        await asyncio.sleep(delay)
        while True:
            await self._ask(name, known)
            await asyncio.sleep(known.patroni.interval)

    async def _ask(self, name: str, known: ClusterDiscovery) -> None:
        before, was_up = known.answer, known.up
        try:
            await known.ask()
            known.up = True
        except NoAnswerError as error:
            self._failed(name, known, str(error))
        except Exception:
            self._failed(name, known, "a defect of this program, see below")
            log.exception("Patroni's answer could not be taken in")
        if known.up and not was_up:
            log.info("asked Patroni for the members", cluster=name, url=known.url)
        if known.answer is not None and known.answer != before:
            _tell(name, before, known.answer)
            self._put_in_force()

    def _failed(self, name: str, known: ClusterDiscovery, error: str) -> None:
        """Log it once per change."""
        if known.up is not False:
            text = "Patroni does not tell the members, those that are known are kept"
            log.warning(text, cluster=name, error=error)
        known.up = False


def apply_members(config: Config, known: dict[str, ClusterDiscovery]) -> Config:
    """Return the configuration with the members of these clusters as nodes."""
    clusters = [
        known[cluster.name].with_members(cluster) if cluster.name in known else cluster for cluster in config.clusters
    ]
    return replace(config, clusters=tuple(clusters))


async def discover_once(config: Config, names: Collection[str] | None = None) -> tuple[Config, dict[str, str]]:
    """
    Ask once, for a command that ends: about these clusters, None for all.

    Returns the configuration with the members, and by cluster why there is no answer.
    """
    wanted = [cluster for cluster in config.clusters if names is None or cluster.name in names]
    known = {cluster.name: ClusterDiscovery(cluster.patroni) for cluster in wanted if cluster.patroni is not None}
    answers = await asyncio.gather(*(each.ask() for each in known.values()), return_exceptions=True)
    errors = {}
    for name, answer in zip(known, answers, strict=True):
        if isinstance(answer, NoAnswerError):
            errors[name] = str(answer)
        elif answer is not None:
            raise answer
    return apply_members(config, known), errors


def _tell(name: str, before: Answer | None, now: Answer) -> None:
    members = {member.name: member for member in now.members}
    past = {member.name: member for member in before.members} if before is not None else {}
    come, gone = sorted(members.keys() - past.keys()), sorted(past.keys() - members.keys())
    moved = sorted(each for each in members.keys() & past.keys() if members[each] != past[each])
    fields = {"come": come or None, "gone": gone or None, "moved": moved or None, "left_out": now.left_out or None}
    level = logging.WARNING if now.left_out else logging.INFO
    log.log(level, "the members have changed", cluster=name, members=len(members), **fields)

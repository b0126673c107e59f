"""Incidents in which transactions hold slots, or seem to: sessions of every kind, and alerts for the remedy."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from tests.simulations.terminations.cluster import BlockedCluster
from tests.simulations.terminations.slots import Consumer, ModelSlot
from tests.simulations.terminations.transactions import Owner, Transaction

if TYPE_CHECKING:
    from tests.simulations.year.simulation import Simulation

POLL_INTERVAL_SECONDS = 5.0
FREE_SECONDS = 20.0
"""For which a slot has to be free until its alert is resolved."""
PATIENCE = 400.0
"""Seconds until an incident ends whatever the healer does."""

ALLOWED = Owner()
FOREIGN = Owner("somebody", "reports")
OWNERS = (
    ALLOWED,
    ALLOWED,
    ALLOWED,
    Owner(datname="shop"),
    Owner(datname="template1"),
    FOREIGN,
    Owner("somebody"),
    Owner(application_name="reports"),
    Owner("chief", superuser=True),
    Owner("postgres", "", backend_type="autovacuum worker", superuser=True),
)

BlockedIncident = Callable[["Simulation", BlockedCluster, random.Random], Awaitable[None]]


class Scene:
    """What happens in one cluster: sessions that come and go, and the alerts about its slots."""

    def __init__(self, simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> None:
        self.simulation = simulation
        self.cluster = cluster
        self.chance = chance
        cluster.settle()
        if chance.random() < 0.7:
            self._load(chance.choice((0.2, 1.0, 3.0)))

    def slot(self, name: str = "kept", *, failover: bool = False, slow: bool = False) -> ModelSlot:
        """Add a slot whose consumer confirms every second, every ten, or every minute, perhaps late."""
        interval = self.chance.choice((10.0, 60.0) if slow else (1.0, 1.0, 1.0, 10.0, 60.0))
        lag = self.chance.choice((0.0, 5.0, 30.0) if slow else (0.0, 0.0, 0.0, 2.0))
        return self.cluster.add_slot(name, Consumer(interval, lag), failover=failover)

    def session(
        self,
        owner: Owner,
        length: float,
        *,
        after: float = 0.0,
        writes: float | None = 0.0,
        subtransaction: bool = False,
        busy: bool = False,
        prepares: float | None = None,
        pid: int | None = None,
    ) -> Transaction:
        """
        Begin a transaction that ends by itself after `length` seconds.

        Its xid comes `after` seconds from now, its first WAL `writes` seconds later; None: it never writes any. `busy`:
        a statement runs all the time. `prepares`: seconds until it is prepared.
        """
        model = self.cluster.model
        transaction = model.begin(owner, pid=pid)
        start = model.now + after
        model.at(start, lambda: model.assign_xid(transaction))
        if writes is not None:
            model.at(start + writes, lambda: model.write_in(transaction, subtransaction=subtransaction))
        if not busy and owner.backend_type == "client backend":
            model.at(start + (writes or 0.0) + 0.1, lambda: model.become_idle(transaction))
        if prepares is not None:
            model.at(start + prepares, lambda: model.prepare(transaction, f"gid{transaction.pid}"))
        model.at(start + length, lambda: model.end(transaction))
        model.settle(model.now)
        return transaction

    def any_session(self, length: float) -> Transaction:
        """Begin a transaction of a random kind."""
        chance = self.chance
        return self.session(
            chance.choice(OWNERS),
            length,
            after=chance.choice((0.0, 0.0, chance.uniform(0, 60))),
            writes=chance.choice((None, None, 0.0, 0.0, chance.uniform(0, 60))),
            subtransaction=chance.random() < 0.3,
            busy=chance.random() < 0.3,
            prepares=chance.uniform(1, 90) if chance.random() < 0.1 else None,
        )

    def later(self, seconds: float, event: Callable[[], object]) -> None:
        model = self.cluster.model
        model.at(model.now + seconds, event)

    def _load(self, per_second: float) -> None:
        """Short transactions, most of which write."""

        def work() -> None:
            self.session(FOREIGN, self.chance.expovariate(2), writes=self.chance.choice((0.0, 0.0, None)), busy=True)
            self.later(self.chance.expovariate(per_second), work)

        self.later(self.chance.expovariate(per_second), work)

    async def alert(self, slot_name: str, *, node: str | None = None, after: float | None = None) -> None:
        """Fire the alert until the slot has been free for a while, or patience is over."""
        cluster, chance = self.cluster, self.chance
        node = node or cluster.primary
        await asyncio.sleep(chance.uniform(20, 90) if after is None else after)
        names = {"end_transaction": "PgSlotEndangeredByTransaction"}
        if chance.random() < 0.5:
            names["log_standby_snapshot"] = "PgSlotStalled"
        fire = self.simulation.alertmanager.fire
        fingerprints = [
            fire({"alertname": name, "cluster": cluster.name, "node": node, "slot_name": slot_name, "heal": heal})
            for heal, name in names.items()
        ]
        start, free_since = cluster.clock(), None
        while cluster.clock() - start < PATIENCE:
            await asyncio.sleep(POLL_INTERVAL_SECONDS)
            cluster.settle()
            if self._blocked(slot_name):
                free_since = None
            elif free_since is None:
                free_since = cluster.clock()
            elif cluster.clock() - free_since > FREE_SECONDS:
                break
        for fingerprint in fingerprints:
            self.simulation.alertmanager.resolve(fingerprint)
        await asyncio.sleep(70.0)

    def _blocked(self, slot_name: str) -> bool:
        if slot_name in self.cluster.slots:
            return bool(self.cluster.slots[slot_name].holders())
        creation = self.cluster.creations.get(slot_name)
        return creation is not None and creation.waits


async def lone_holder(simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> None:
    """One transaction that may be ended holds the slot, and nothing else is open for long."""
    scene = Scene(simulation, cluster, chance)
    scene.slot()
    await asyncio.sleep(chance.uniform(0, 40))
    cluster.settle()
    holder = scene.session(ALLOWED, 3600.0, writes=chance.choice((0.0, 0.0, 5.0)), subtransaction=chance.random() < 0.2)
    await scene.alert("kept")
    simulation.termination_judge.holders_left += not holder.by_healer


async def older_without_wal(simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> None:
    """An allowed transaction has the older xid and has written no WAL; one that may not be ended holds the slot."""
    scene = Scene(simulation, cluster, chance)
    scene.slot()
    scene.session(ALLOWED, 3600.0, writes=None)
    await asyncio.sleep(chance.choice((0.5, chance.uniform(1, 60))))
    cluster.settle()
    busy = chance.random() < 0.3
    scene.session(ALLOWED if busy else FOREIGN, chance.choice((3600.0, chance.uniform(60, 300))), busy=busy)
    await scene.alert("kept")


async def just_committed(simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> None:
    """What held the slot commits by itself, at any moment, while allowed transactions are open that never held it."""
    scene = Scene(simulation, cluster, chance)
    scene.slot(slow=chance.random() < 0.5)
    for _ in range(chance.choice((0, 0, 1))):
        scene.session(ALLOWED, 3600.0, writes=None)
    busy = chance.random() < 0.5
    scene.session(ALLOWED if busy else FOREIGN, chance.uniform(30, 150), busy=busy)
    await asyncio.sleep(chance.uniform(0, 45))
    cluster.settle()
    scene.session(ALLOWED, 3600.0, writes=chance.choice((None, 0.0, 0.0, 20.0)))
    await scene.alert("kept")


async def crowd(simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> None:
    """Many transactions of any kind, which begin and end at any moment."""
    scene = Scene(simulation, cluster, chance)
    for i in range(chance.randint(1, 3)):
        scene.slot(f"kept{i}" if i else "kept", slow=chance.random() < 0.3)
    for _ in range(chance.randint(2, 12)):
        scene.later(chance.uniform(0, 240), lambda: scene.any_session(chance.expovariate(1 / 150)))
    await scene.alert("kept")


async def prepared(simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> None:
    """A prepared transaction holds the slot, or the holder is prepared while the healer is about to end it."""
    scene = Scene(simulation, cluster, chance)
    scene.slot()
    scene.session(ALLOWED, chance.choice((3600.0, chance.uniform(60, 300))), prepares=chance.choice((0.5, 60.0, 90.0)))
    if chance.random() < 0.7:
        await asyncio.sleep(chance.uniform(0, 40))
        cluster.settle()
        scene.session(ALLOWED, 3600.0, writes=chance.choice((None, 0.0)))
    await scene.alert("kept")


async def slow_confirmations(simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> None:
    """The consumer confirms late, or stops to for a while, or is away: is it the transaction or the consumer?"""
    scene = Scene(simulation, cluster, chance)
    slot = scene.slot(slow=True)
    scene.session(chance.choice(OWNERS), chance.choice((3600.0, chance.uniform(30, 200))))
    if chance.random() < 0.5:
        scene.session(ALLOWED, 3600.0, writes=None)

    def stop() -> None:
        slot.confirms = False
        scene.later(chance.uniform(20, 200), lambda: setattr(slot, "confirms", True))

    def leave() -> None:
        slot.disconnect()
        scene.later(chance.uniform(20, 200), slot.reconnect)

    scene.later(chance.uniform(5, 120), chance.choice((stop, leave)))
    await asyncio.sleep(chance.uniform(0, 45))
    cluster.settle()
    if chance.random() < 0.5:
        scene.session(ALLOWED, 3600.0, writes=0.0)
    await scene.alert("kept")


async def same_session_again(simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> None:
    """A session commits and begins again and again: the same pid, another transaction."""
    scene = Scene(simulation, cluster, chance)
    scene.slot()
    first = scene.session(ALLOWED, 3600.0)

    def again(before: Transaction) -> None:
        if before.open and before.pid is not None:
            cluster.model.end(before)
            following = scene.session(ALLOWED, 3600.0, pid=before.pid, writes=chance.choice((None, 0.0)))
            following.backend_start_stamp = before.backend_start_stamp
            scene.later(chance.uniform(20, 120), lambda: again(following))

    scene.later(chance.uniform(30, 150), lambda: again(first))
    await scene.alert("kept")


async def slot_made_again(simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> None:
    """The slot is dropped and created again under its name while a healer is about to act, or has acted."""
    scene = Scene(simulation, cluster, chance)
    scene.slot()
    scene.session(chance.choice((ALLOWED, ALLOWED, FOREIGN)), chance.choice((3600.0, chance.uniform(60, 300))))

    def drop() -> None:
        cluster.slots.pop("kept").disconnect()
        scene.later(chance.uniform(1, 30), scene.slot)

    scene.later(chance.uniform(30, 180), drop)
    await scene.alert("kept")


async def _with_blockers(simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> Scene:
    """Return a scene whose primary has open transactions: one that may be ended, or some of any kind."""
    scene = Scene(simulation, cluster, chance)
    if chance.random() < 0.5:
        scene.session(ALLOWED, 3600.0, writes=chance.choice((None, 0.0)))
    else:
        for _ in range(chance.randint(1, 4)):
            scene.any_session(chance.choice((3600.0, chance.uniform(20, 300))))
    await asyncio.sleep(1.0)
    cluster.settle()
    return scene


async def creation_on_primary(simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> None:
    """Transactions block a creation on the primary; more begin while it waits."""
    scene = await _with_blockers(simulation, cluster, chance)
    cluster.create_slot("made", cluster.primary)
    for _ in range(chance.choice((0, 0, 1, 3))):
        scene.later(chance.uniform(0, 120), lambda: scene.any_session(chance.expovariate(1 / 100)))
    await scene.alert("made", after=chance.uniform(2, 60))


async def creation_on_standby(simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> None:
    """Transactions on the primary block a creation on its standby, whose replay may hang where no view shows it."""
    scene = await _with_blockers(simulation, cluster, chance)
    creation = cluster.create_slot("made", cluster.standby, replay_delay=chance.choice((0.05, 0.05, 5.0)))
    if chance.random() < 0.3:
        scene.later(chance.uniform(5, 90), creation.stop_replay)
        scene.later(chance.uniform(90, 400), creation.resume_replay)
    for _ in range(chance.choice((0, 0, 1, 3))):
        scene.later(chance.uniform(0, 120), lambda: scene.any_session(chance.expovariate(1 / 100)))
    await scene.alert("made", node=cluster.standby, after=chance.uniform(2, 60))


async def failover(simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> None:
    """A failover while the healer is about to act; on the new primary a session has the same pid and xid."""
    scene = Scene(simulation, cluster, chance)
    scene.slot(failover=True)
    victim = scene.session(ALLOWED, 3600.0)

    async def fail() -> None:
        await asyncio.sleep(chance.uniform(30, 150))
        old = cluster.primary
        cluster.settle()
        cluster.down.add(old)
        await asyncio.sleep(chance.uniform(0, 20))
        cluster.fail_over()
        scene.session(ALLOWED, 3600.0, writes=chance.choice((None, 0.0, 10.0)), pid=victim.pid)
        await asyncio.sleep(chance.uniform(1, 60))
        cluster.down.discard(old)
        if chance.random() < 0.5:
            await asyncio.sleep(chance.uniform(1, 60))
            cluster.settle()
            scene.session(ALLOWED, 3600.0)

    failing = asyncio.create_task(fail())
    await scene.alert("kept", after=chance.uniform(5, 60))
    await failing
    await scene.alert("kept", after=1.0)


async def clock_steps(simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> None:
    """The primary's clock is stepped: a session seems to be idle for long, or the hour to be over."""
    scene = Scene(simulation, cluster, chance)
    scene.slot()

    def step() -> None:
        cluster.model.clock_offset += chance.choice((-4400.0, -60.0, 15.0, 60.0, 600.0, 4400.0))
        scene.later(chance.uniform(5, 300), step)

    scene.later(chance.uniform(5, 120), step)
    for _ in range(chance.choice((1, 1, 5))):
        holder = scene.session(ALLOWED, 3600.0)
        if chance.random() < 0.5:
            _touch(scene, holder)
        await scene.alert("kept", after=chance.uniform(5, 60))
        cluster.model.end(holder)


def _touch(scene: Scene, transaction: Transaction) -> None:
    """Let the session run a statement now and then, so that it is never idle for long."""

    def touch() -> None:
        scene.cluster.model.become_active(transaction)
        scene.cluster.model.become_idle(transaction)
        scene.later(scene.chance.uniform(5, 18), touch)

    touch()


async def hour_spent(simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> None:
    """More holders within an hour than may be ended; a failover loses what the primary remembers of them."""
    scene = Scene(simulation, cluster, chance)
    scene.slot(failover=True)
    for i in range(6):
        holder = scene.session(ALLOWED, 3600.0)
        await scene.alert("kept", after=chance.uniform(5, 30))
        cluster.model.end(holder)
        if i == 2 and chance.random() < 0.5:
            cluster.settle()
            cluster.fail_over()


async def switched_off(simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> None:
    """The kill switch is thrown, or the alert silenced, at any moment of the episode."""
    scene = Scene(simulation, cluster, chance)
    scene.slot()
    scene.session(ALLOWED, 3600.0)

    async def switch() -> None:
        await asyncio.sleep(chance.uniform(30, 120))
        if chance.random() < 0.5:
            simulation.silence(cluster)
            await asyncio.sleep(6.0)
        else:
            simulation.switch(cluster.name, on=False)
        cluster.off_since = cluster.clock()

    switching = asyncio.create_task(switch())
    await scene.alert("kept", after=chance.uniform(5, 25))
    await switching
    simulation.switch(cluster.name, on=True)


async def switched_off_in_flight(simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> None:
    """The kill switch is thrown, or the healer restarted, while the act waits on the server for the lock of a table."""
    scene = Scene(simulation, cluster, chance)
    scene.slot()
    scene.session(ALLOWED, 3600.0)
    loop = asyncio.get_running_loop()

    def switch() -> None:
        if chance.random() < 0.5:
            simulation.restart_healer()
        elif cluster.off_since is None:
            simulation.switch(cluster.name, on=False)
            cluster.off_since = cluster.clock()

    cluster.act_waits = lambda: loop.call_later(chance.uniform(0.05, 0.4), switch)
    await scene.alert("kept", after=chance.uniform(5, 25))
    simulation.switch(cluster.name, on=True)


async def false_alarm(simulation: "Simulation", cluster: BlockedCluster, chance: random.Random) -> None:
    """Alerts about a slot that nothing holds, while transactions are open."""
    scene = Scene(simulation, cluster, chance)
    scene.slot(slow=chance.random() < 0.5)
    for _ in range(chance.randint(1, 4)):
        scene.session(ALLOWED, 3600.0, writes=None)
    await scene.alert(chance.choice(("kept", "kept", "none")))


KINDS: dict[BlockedIncident, float] = {
    lone_holder: 40,
    older_without_wal: 8,
    just_committed: 10,
    crowd: 10,
    prepared: 3,
    slow_confirmations: 6,
    same_session_again: 4,
    slot_made_again: 3,
    creation_on_primary: 8,
    creation_on_standby: 8,
    failover: 4,
    clock_steps: 3,
    hour_spent: 2,
    switched_off: 3,
    switched_off_in_flight: 2,
    false_alarm: 2,
}
"""Weights."""

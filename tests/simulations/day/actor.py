"""Executes the steps of a plan on the real stack; skips a step that a crash has made impossible."""

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import psycopg

from tests.simulations.day.day_state import Creation, DayState, ForgottenTransaction
from tests.simulations.day.pair import Pair, rotate
from tests.simulations.day.steps import EXPORTER, Act, Step
from tests.support.blocking_transactions import APPLICATION, USER
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import Process
from tests.support.servers.programs import Program
from tests.support.servers.proxy import Fault
from tests.support.servers.sessions import OpenTransaction
from tests.support.servers.stack import Stack

_MOVES = frozenset(
    {Act.HANG, Act.RESTART_FAST, Act.RESTART_IMMEDIATE, Act.SWITCHOVER, Act.FAILOVER, Act.KILL, Act.START}
)
_DISTURBS = _MOVES | {Act.COMMIT, Act.FINISH, Act.HANG_UP, Act.RESUME, Act.RECONNECT}


class Actor:
    """Use it from the main thread only: processes end with the thread that starts them."""

    def __init__(self, stack: Stack, pair: Pair, state: DayState) -> None:
        self._stack = stack
        self._pair = pair
        self._state = state
        self._open: dict[str, OpenTransaction] = {}
        self._consumers: dict[str, Process] = {}
        self._silenced = ExitStack()
        self._acts: dict[Act, Callable[[Step], str | None]] = {
            Act.CREATE: self._create,
            Act.CREATE_BY_FUNCTION: self._create,
            Act.DROP: self._drop,
            Act.ABANDON: self._abandon,
            Act.CONSUME: self._consume,
            Act.LEAVE: self._leave,
            Act.BEGIN: self._begin,
            Act.COMMIT: self._commit,
            Act.PREPARE: self._prepare,
            Act.FINISH: self._finish,
            Act.FORGET: self._forget,
            Act.HANG_UP: self._hang_up,
            Act.WRITE: self._write,
            Act.PAUSE: self._pause,
            Act.RESUME: self._resume,
            Act.REFUSE: self._cut,
            Act.SWALLOW: self._cut,
            Act.RECONNECT: self._reconnect,
            Act.RESTART_FAST: self._restart,
            Act.RESTART_IMMEDIATE: self._restart,
            Act.HANG: self._hang,
            Act.SWITCHOVER: self._change_roles,
            Act.FAILOVER: self._change_roles,
            Act.KILL: self._kill,
            Act.START: self._start,
            Act.CALL_BY_HAND: self._call_by_hand,
            Act.FREEZE: self._freeze,
            Act.SILENCE: self._silence,
        }

    def take(self, step: Step) -> str | None:
        """Execute the step; return why it was skipped, None if it was not."""
        self._state.busy = step.act in _MOVES
        try:
            return self._acts[step.act](step)
        finally:
            if step.act in _DISTURBS:
                self._state.disturb()
            self._state.busy = False

    def end(self) -> None:
        """Release everything that is still held."""
        self._silenced.close()
        for server in self._pair.nodes.values():
            if server.process.running:
                server.resume_all()
        for name in list(self._consumers):
            self._end_consumer(name)
        for creation in self._state.creations.values():
            creation.statement.close()
        for name in list(self._open):
            self._close_transaction(name)

    def program(self, name: str) -> Program:
        return self._stack.exporter if name == EXPORTER else self._stack.healer

    def _server(self, step: Step) -> Postgres:
        return self._pair.nodes[step.node]

    def _create(self, step: Step) -> None:
        server = self._server(step)
        by_walsender = step.act is Act.CREATE
        statement = (server.create_slot if by_walsender else server.create_slot_by_function)(step.name)
        self._state.creations[step.name] = Creation(step.name, step.node, statement)
        statement.__enter__()

    def _drop(self, step: Step) -> None:
        creation = self._state.creations.pop(step.name, None)
        if creation is not None and not creation.statement.done:
            creation.excused = "it was dropped"
        self._end_consumer(step.name)
        self._server(step).drop_slot(step.name)
        if creation is not None:
            self._state.got_slot[step.name] = _got_slot(creation)
            creation.statement.close()

    def _abandon(self, step: Step) -> None:
        creation = self._state.creations.pop(step.name)
        creation.excused = "its client hung up"
        self._state.got_slot[step.name] = None
        creation.statement.close()

    def _consume(self, step: Step) -> str | None:
        server = self._server(step)
        usable = (
            "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s AND confirmed_flush_lsn IS NOT NULL"
        )
        if not server.sql(usable, [step.name]):
            return "it is not made"
        # A consumer that ended with its server may still be registered.
        self._end_consumer(step.name)
        options = ("--option=proto_version=1", "--option=publication_names=shop", "--status-interval=1", "--no-loop")
        program = server.binaries.tools / "pg_recvlogical"
        process = Process(
            [program, "--start", f"--slot={step.name}", "--file=/dev/null", *options, f"--dbname={server.conninfo()}"],
            self._stack.folder / f"{step.name}.log",
        )
        process.start()
        self._consumers[step.name] = process
        return None

    def _leave(self, step: Step) -> None:
        self._end_consumer(step.name)

    def _end_consumer(self, name: str) -> None:
        if name in self._consumers:
            self._consumers.pop(name).kill()

    def _begin(self, step: Step) -> None:
        self._state.transactions.add(step.name)
        self._open[step.name] = self._server(step).hold_transaction(application_name=step.name)

    def _forget(self, step: Step) -> None:
        transaction = self._server(step).hold_transaction(application_name=APPLICATION, user=USER)
        transaction.connection.execute("SELECT pg_catalog.pg_logical_emit_message(true, 'day', 'forgotten')")
        self._state.transactions.add(step.name)
        self._state.forgotten[step.node, transaction.pid] = ForgottenTransaction(step.name, time.time())
        self._open[step.name] = transaction

    def _hang_up(self, step: Step) -> None:
        self._close_transaction(step.name)

    def _commit(self, step: Step) -> None:
        self._open[step.name].commit()
        self._close_transaction(step.name)

    def _close_transaction(self, name: str) -> None:
        self._open.pop(name).connection.close()
        self._state.transactions.discard(name)

    def _prepare(self, step: Step) -> None:
        self._state.transactions.add(step.name)
        xid = "SELECT pg_catalog.pg_current_xact_id()"
        self._server(step).sql_in_one_transaction(xid, f"PREPARE TRANSACTION '{step.name}'")

    def _finish(self, step: Step) -> str | None:
        leader = self._pair.nodes[self._pair.leader]
        exists = leader.sql("SELECT 1 FROM pg_catalog.pg_prepared_xacts WHERE gid = %s", [step.name])
        if exists:
            # Transactions are committed and rolled back in turn.
            command = "COMMIT" if len(self._state.transactions) % 2 else "ROLLBACK"
            leader.sql(f"{command} PREPARED '{step.name}'")
        self._state.transactions.discard(step.name)
        return None if exists else "it was lost with its server"

    def _write(self, step: Step) -> None:
        server = self._server(step)
        message = "pg_catalog.pg_logical_emit_message(false, 'day', pg_catalog.repeat('x', 1000000))"
        server.sql(f"SELECT count({message}) FROM pg_catalog.generate_series(1, 3)")
        server.sql("INSERT INTO orders SELECT coalesce(max(id), 0) + 1, 'item' FROM orders")

    def _pause(self, step: Step) -> None:
        self._state.paused = True
        self._server(step).sql("SELECT pg_catalog.pg_wal_replay_pause()")
        self._state.begin_replay_stop("paused")

    def _resume(self, step: Step) -> None:
        self._state.end_replay_stop("paused")
        self._server(step).sql("SELECT pg_catalog.pg_wal_replay_resume()")
        self._state.paused = False

    def _cut(self, step: Step) -> None:
        self._state.cut = True
        self._pair.cut(Fault.REFUSED if step.act is Act.REFUSE else Fault.HUNG)
        if step.act is Act.REFUSE:
            # Only a refused connection is visible to the healer; swallowed packets are not.
            self._state.begin_replay_stop("cut")

    def _reconnect(self, _step: Step) -> None:
        self._state.end_replay_stop("cut")
        self._pair.cut(Fault.NONE)
        self._state.cut = False

    def _restart(self, step: Step) -> None:
        self._expect_end(step.node)
        self._pair.stop(step.node, crash=step.act is Act.RESTART_IMMEDIATE)
        self._pair.start(step.node)
        self._after_end(step.node)

    def _expect_end(self, node: str) -> None:
        """All sessions on the node are about to end: creations on it may fail."""
        if node != self._pair.leader:
            self._state.end_replay_stop("paused")
        for creation in self._state.creations.values():
            if creation.node == node and not creation.statement.done:
                creation.excused = "its server was stopped"

    def _after_end(self, node: str) -> None:
        for name, transaction in list(self._open.items()):
            if transaction.connection.info.port == self._pair.nodes[node].port:
                self._close_transaction(name)
        if node != self._pair.leader:
            self._state.paused = False

    def _hang(self, step: Step) -> None:
        server = self._server(step)
        # A snapshot that waits for this server is acted on when it arrives, and may then be older than a pause.
        reasons = self._state.replay_stop_reasons()
        for reason in reasons:
            self._state.end_replay_stop(reason)
        with self._state.query_lock:
            server.pause_all()
            self._state.hung.add(step.node)
        try:
            time.sleep(step.seconds)
        finally:
            self._state.hung.discard(step.node)
            server.resume_all()
        for reason in reasons:
            self._state.begin_replay_stop(reason)

    def _change_roles(self, step: Step) -> None:
        old = self._pair.leader
        for reason in ("paused", "cut"):
            self._state.end_replay_stop(reason)
        self._expect_end(old)
        if step.act is Act.SWITCHOVER:
            self._pair.switch_over()
        else:
            self._pair.fail_over()
            for name in [name for name, creation in self._state.creations.items() if creation.node == old]:
                creation = self._state.creations.pop(name)
                self._state.got_slot[name] = _got_slot(creation)
                creation.statement.close()
        self._after_end(old)
        self._state.leader = self._pair.leader
        self._state.paused = self._state.cut = False

    def _kill(self, step: Step) -> None:
        self._state.dead.add(step.name)
        self.program(step.name).process.kill()
        if step.name != EXPORTER:
            self._state.lives.append((self._state.healer_began, time.time()))

    def _start(self, step: Step) -> None:
        program = self.program(step.name)
        rotate(program.process)
        if step.name != EXPORTER:
            self._state.healer_began = time.time()
        program.start()
        self._state.dead.discard(step.name)

    def _call_by_hand(self, step: Step) -> None:
        with suppress(psycopg.errors.ObjectNotInPrerequisiteState):
            self._server(step).sql("SELECT pg_catalog.pg_log_standby_snapshot()")

    def _freeze(self, step: Step) -> None:
        self._state.frozen.add(step.name)
        self.program(step.name).process.pause()

    def _silence(self, step: Step) -> None:
        self._silenced.enter_context(self._server(step).no_records_by_itself())


def _got_slot(creation: Creation) -> bool | None:
    """Return whether the client got its slot; None: unknown, the server may have ended between slot and answer."""
    if creation.statement.done:
        return creation.statement.error is None or (None if creation.excused else False)
    return None

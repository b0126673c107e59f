"""All remedies, each put together from its parts; and by name, as alerts ask for them."""

from collections.abc import Mapping

from healer.remedies.attempt import WROTE, Call, CallResult
from healer.remedies.base import Allowance, Remedy, Rules
from healer.remedies.connection import Primary, check
from healer.remedies.force_snapshot import outcome, schedule
from healer.remedies.force_snapshot import statements as record_statements
from healer.remedies.force_snapshot.schedule import Attempt
from healer.remedies.progress import Track
from healer.remedies.terminate import connection, statements
from healer.remedies.terminate import rules as ending
from healer.remedies.terminate.connection import Ender
from pgslot.config.model import Cluster, HealerConfig, HealerSettings

START_SHARE = 10
"""The tenth part of an hour's calls is there right after a start."""


def _whole_cluster(cluster: Cluster) -> HealerConfig | None:
    return cluster.healer


def _primary(target: HealerConfig, idle: float) -> Primary:
    return Primary(target, idle=idle)


async def _call(primary: Primary, step: Attempt) -> Call:
    return await primary.call(step.pace)


def _wants_a_call(track: Track) -> bool:
    return track.wants_a_call


def _calls(_target: HealerConfig, settings: HealerSettings) -> Allowance:
    return Allowance(settings.calls_per_hour, max(settings.burst_calls, settings.calls_per_hour // START_SHARE))


RECORD = Remedy(
    name="log_standby_snapshot",
    target=_whole_cluster,
    check=check,
    primary=_primary,
    act=_call,
    rules=Rules(
        outcome.advance,
        outcome.after_attempt,
        outcome.opens_again,
        schedule.settle,
        schedule.next_step,
        _wants_a_call,
    ),
    allowance=_calls,
    # LOCKED: another healer makes the call, and both budgets stay in step.
    spending=WROTE | {CallResult.LOCKED, CallResult.ERROR},
    say=record_statements.say,
    guards=(),
    plan="pg_log_standby_snapshot() on the primary",
    not_now="a record would not help now",
)


def _ender(target: HealerConfig, idle: float) -> Primary:
    return Ender(target, idle=idle)


async def _end(primary: Primary, step: Attempt) -> Call:
    if not isinstance(primary, Ender):
        raise TypeError("transactions are ended by an Ender")
    return await primary.end(step)


def _endings(target: HealerConfig, _settings: HealerSettings) -> Allowance:
    """All of them are there at the start: the primary remembers what was done before it, and has the last word."""
    allowed = target.termination.policy.at_most_per_hour if target.termination is not None else 0
    return Allowance(allowed, allowed)


ENDING = Remedy(
    name="end_transaction",
    target=connection.target,
    check=connection.check_ender,
    primary=_ender,
    act=_end,
    rules=Rules(
        ending.advance,
        ending.after_attempt,
        ending.opens_again,
        ending.settle,
        ending.next_step,
        ending.wants,
    ),
    allowance=_endings,
    spending=frozenset({CallResult.ENDED}),
    say=statements.say,
    guards=tuple(statements.Refusal),
    plan="the transaction in its way is ended on the primary, if it is the same for some seconds and no guard refuses",
    not_now="no transaction is seen in its way that may be ended",
)

REMEDIES: Mapping[str, Remedy] = {remedy.name: remedy for remedy in (RECORD, ENDING)}

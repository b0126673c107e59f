"""A heal by ending a transaction: which transaction, the next step, and the outcome. Tables of cases."""

from dataclasses import replace

import pytest

from healer.remedies.attempt import AttemptResult, Capability, Unavailable, Wait
from healer.remedies.base import EpisodeProgress
from healer.remedies.progress import Outcome
from healer.remedies.slot_state import SlotCondition, SlotState
from healer.remedies.terminate.blocking_transaction import BlockingTransaction, BlockKind, HolderSession, blocker_of
from healer.remedies.terminate.connection import Terminate, TerminationAttempt
from healer.remedies.terminate.guards import Refusal, precheck
from healer.remedies.terminate.outcome import EFFECT_SECONDS, apply_attempt, apply_observation, should_reopen
from healer.remedies.terminate.progress import TerminationProgress
from healer.remedies.terminate.schedule import (
    CONFIRM_SECONDS,
    REFUSED_SECONDS,
    apply_timeouts,
    next_step,
    wants_attempt,
)
from pgslot.config.model import HealerSettings
from pgslot.diagnosis.creation_wait import CreationWait
from pgslot.diagnosis.pinning import Pinning
from pgslot.snapshot.rows import Transaction
from tests.support.builders.slot_states import C, R, existing, waiting
from tests.support.builders.snapshots import CREATION, SLOT, TRANSACTION

SETTINGS = HealerSettings()
OTHER = replace(TRANSACTION, pid=300, xid=695)
PREPARED = replace(TRANSACTION, backend_type="prepared", pid=None, application_name="order-7")


def blocked(by: object = TRANSACTION, *, on_primary: bool = True) -> SlotState:
    return SlotState(SlotCondition.WAITING, CreationWait("n", CREATION, R.TRANSACTION, by), on_primary=on_primary)  # type: ignore[arg-type]


def pinned(restart: int = 1000, *by: Transaction, awaited: int | None = 2000, proven: bool = True) -> SlotState:
    """Return the state of a slot that these transactions can pin; by default one, and that is proven."""
    state = existing(C.TRANSACTION, restart)
    candidates = by or (TRANSACTION,)
    pinning = Pinning(695, 0.0, candidates, certain=True, awaited=awaited, proven=proven and len(candidates) == 1)
    return replace(state, pinned_by=candidates[0], pinning=pinning)


def session(pid: int = 200, xid: int = 690) -> HolderSession:
    return HolderSession(pid, "worker", "batch", "app", "idle in transaction", "1", "2", "3", xid)


def blocker(state: SlotState) -> BlockingTransaction:
    blocking = blocker_of(state)
    assert blocking is not None
    return blocking


def call(result: AttemptResult, state: SlotState, **fields: object) -> TerminationAttempt:
    attempt = TerminationAttempt(result, blocker=blocker(state), session=session())
    return replace(attempt, **fields)  # type: ignore[arg-type]


BLOCKERS = {
    "a creation on the primary waits for the oldest transaction": (blocked(), BlockKind.CREATION),
    "a creation on a standby waits": (blocked(on_primary=False), BlockKind.CREATION_ON_STANDBY),
    "a transaction retains a slot's WAL": (pinned(), BlockKind.RETENTION),
    "a prepared transaction, which is refused later": (blocked(PREPARED), BlockKind.CREATION),
    "none, if a record is missing": (waiting(R.RUNNING_XACTS), None),
    "none, if replay is paused": (waiting(R.REPLAY_PAUSED), None),
    "none, if the blocker is not known": (blocked(None), None),
    "none, if it has no xid": (blocked(replace(TRANSACTION, xid=None)), None),
    "none, if the slot is on a standby": (replace(pinned(), on_primary=False), None),
    "none, if the consumer is behind": (existing(C.CONSUMER), None),
    "none, if the slot is well": (existing(C.NONE), None),
}


@pytest.mark.parametrize(("state", "kind"), BLOCKERS.values(), ids=BLOCKERS.keys())
def test_blocker_follows_from_the_state(state: SlotState, kind: BlockKind | None) -> None:
    blocking = blocker_of(state)
    assert (None if blocking is None else blocking.kind) == kind
    if blocking is not None and kind is not BlockKind.RETENTION:
        assert blocking.creator == (CREATION.usename, CREATION.application_name)


def seen(state: SlotState, now: float = 0.0) -> TerminationProgress:
    """Return the progress after a check by which the session may be ended."""
    progress = apply_observation(TerminationProgress(), state, now)
    return apply_attempt(progress, call(AttemptResult.SEEN, state), now)


def step(progress: TerminationProgress, now: float, last: float | None = None) -> Terminate | Wait:
    return next_step([progress], EpisodeProgress(now=now, last_attempt=last), SETTINGS)


def test_session_is_checked_at_once_and_ended_some_seconds_later() -> None:
    progress = apply_observation(TerminationProgress(), blocked(), 0.0)
    first = step(progress, 0.0)
    assert isinstance(first, Terminate)
    assert first.target is not None
    assert first.target.session is None, "no session is ended at the first check"
    progress = apply_attempt(progress, call(AttemptResult.SEEN, blocked()), 0.1)
    assert step(progress, 0.2, last=0.1) == Wait(1.0)
    progress = apply_observation(progress, blocked(), 5.0)
    assert isinstance(step(progress, 5.05, last=0.1), Wait)
    second = step(progress, 0.1 + CONFIRM_SECONDS, last=0.1)
    assert isinstance(second, Terminate)
    assert second.target is not None
    assert second.target.session == session()


INTERRUPTIONS = {
    "another transaction is the oldest": blocked(OTHER),
    "no transaction blocks": waiting(R.RUNNING_XACTS),
    "unobserved": SlotState(SlotCondition.UNOBSERVED),
    "the same session has another transaction": blocked(replace(TRANSACTION, xid=699)),
}


@pytest.mark.parametrize("between", INTERRUPTIONS.values(), ids=INTERRUPTIONS.keys())
def test_check_counts_only_if_every_snapshot_shows_the_same_transaction(between: SlotState) -> None:
    progress = apply_observation(seen(blocked()), between, 2.0)
    progress = apply_observation(progress, blocked(), 4.0)
    assert progress.target is not None
    assert progress.target.session is None
    assert progress.target.since == 4.0


@pytest.mark.parametrize("result", [AttemptResult.ERROR, AttemptResult.UNAVAILABLE])
def test_session_is_checked_again_after_a_failure(result: AttemptResult) -> None:
    failed = TerminationAttempt(result, capability=Capability(Unavailable.NO_PRIMARY), blocker=blocker(blocked()))
    progress = apply_attempt(seen(blocked()), failed, 6.0)
    assert progress.target is not None
    assert progress.target.session is None
    assert step(progress, 7.0, last=6.0) == Wait(1.0)
    assert isinstance(step(progress, 16.0, last=6.0), Terminate)


def test_act_without_an_answer_is_neither_claimed_nor_denied() -> None:
    progress = apply_attempt(seen(blocked()), call(AttemptResult.IN_DOUBT, blocked()), 6.0)
    progress = apply_observation(progress, existing(C.NONE), 7.0)
    assert (progress.outcome, progress.why) == (
        Outcome.RESOLVED_ITSELF,
        "usable, perhaps by an act of ours that got no answer",
    )


OUTCOMES_AFTER_ACT: dict[str, tuple[SlotState, SlotState, Outcome, str]] = {
    "a creation": (blocked(), existing(C.NONE), Outcome.HEALED, "usable after we ended the transaction in its way"),
    "a creation that left much WAL": (
        blocked(),
        existing(C.CONSUMER),
        Outcome.HEALED,
        "usable after we ended the transaction in its way",
    ),
    "a slot that kept WAL": (
        pinned(1000),
        existing(C.STALLED, 2000),
        Outcome.HEALED,
        "restart_lsn moved after we ended the transaction in its way",
    ),
    "a creation that is gone": (
        blocked(),
        SlotState(SlotCondition.DROPPED),
        Outcome.RESOLVED_ITSELF,
        "gone after our act: nothing proves that it became usable",
    ),
    "too late": (pinned(), existing(C.INVALIDATED), Outcome.GAVE_UP, "the slot is lost: it was invalidated"),
}


@pytest.mark.parametrize(
    ("before", "after", "outcome", "why"), OUTCOMES_AFTER_ACT.values(), ids=OUTCOMES_AFTER_ACT.keys()
)
def test_act_gives_the_outcome_of_the_table(before: SlotState, after: SlotState, outcome: Outcome, why: str) -> None:
    progress = apply_attempt(seen(before), call(AttemptResult.ENDED, before), 6.0)
    assert not wants_attempt(progress), "no session is ended twice"
    progress = apply_observation(apply_observation(progress, before, 6.5), after, 7.0)
    assert (progress.outcome, progress.why) == (outcome, why)


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (blocked(), existing(C.NONE), "usable, by no act of ours"),
        (pinned(1000), existing(C.NONE, 2000), "restart_lsn moved, by no act of ours"),
        (pinned(1000), existing(C.NONE, 1000), "it releases WAL, by no act of ours"),
        (blocked(), SlotState(SlotCondition.DROPPED), "it is gone, by no act of ours"),
    ],
)
def test_end_without_our_act_is_not_our_success(before: SlotState, after: SlotState, why: str) -> None:
    progress = apply_observation(seen(before), after, 7.0)
    assert (progress.outcome, progress.why) == (Outcome.RESOLVED_ITSELF, why)


@pytest.mark.parametrize(
    ("other", "well"), [(pinned(1000), existing(C.NONE, 2000)), (blocked(on_primary=False), existing(C.NONE))]
)
def test_another_slot_blocked_by_the_same_transaction_is_healed(other: SlotState, well: SlotState) -> None:
    ended = call(AttemptResult.ENDED, blocked())
    progress = apply_attempt(apply_observation(TerminationProgress(), other, 0.0), ended, 6.0)
    assert not wants_attempt(progress)
    assert apply_observation(progress, well, 7.0).outcome is Outcome.HEALED


def test_slot_blocked_by_another_transaction_is_not_healed() -> None:
    progress = apply_attempt(
        apply_observation(TerminationProgress(), blocked(OTHER), 0.0), call(AttemptResult.ENDED, blocked()), 6.0
    )
    assert wants_attempt(progress)
    assert apply_observation(progress, existing(C.NONE), 7.0).outcome is Outcome.RESOLVED_ITSELF


OUTCOMES: dict[str, tuple[TerminationProgress, EpisodeProgress, Outcome | None]] = {
    "goes on": (seen(blocked()), EpisodeProgress(now=60.0), None),
    "a lasting refusal": (
        apply_attempt(
            apply_observation(TerminationProgress(), blocked(), 0.0),
            call(AttemptResult.REFUSED, blocked(), refusal="superuser"),
            0.1,
        ),
        EpisodeProgress(now=REFUSED_SECONDS),
        Outcome.REFUSED,
    ),
    "a lasting refusal, of a transaction that has just begun to block": (
        apply_attempt(
            apply_observation(TerminationProgress(), blocked(), 0.0),
            call(AttemptResult.REFUSED, blocked(), refusal="superuser"),
            0.1,
        ),
        EpisodeProgress(now=REFUSED_SECONDS - 0.1),
        None,
    ),
    "a passing refusal": (
        apply_attempt(
            apply_observation(TerminationProgress(), blocked(), 0.0),
            call(AttemptResult.REFUSED, blocked(), refusal="active"),
            0.1,
        ),
        EpisodeProgress(now=3000.0),
        None,
    ),
    "a passing refusal, out of time": (
        apply_attempt(
            apply_observation(TerminationProgress(), blocked(), 0.0),
            call(AttemptResult.REFUSED, blocked(), refusal="active"),
            0.1,
        ),
        EpisodeProgress(now=3600.0),
        Outcome.REFUSED,
    ),
    "the hour is spent": (seen(blocked()), EpisodeProgress(now=REFUSED_SECONDS, budget_spent=True), Outcome.REFUSED),
    "the hour is spent by this act": (
        apply_attempt(seen(blocked()), call(AttemptResult.ENDED, blocked()), 6.0),
        EpisodeProgress(now=20.0, budget_spent=True),
        None,
    ),
    "a dry run": (
        apply_attempt(seen(blocked()), call(AttemptResult.DRY_RUN, blocked()), 6.0),
        EpisodeProgress(now=6.0, dry_run=True),
        Outcome.DRY_RUN,
    ),
    "its alert is gone": (replace(seen(blocked()), withdrawn="resolved"), EpisodeProgress(now=5.0), Outcome.CANCELLED),
    "its alert is gone, because no transaction blocks any more": (
        replace(apply_attempt(seen(blocked()), call(AttemptResult.ENDED, blocked()), 6.0), withdrawn="resolved"),
        EpisodeProgress(now=6.0 + EFFECT_SECONDS - 0.1),
        None,
    ),
    "its alert is gone, and the act has had no effect": (
        replace(apply_attempt(seen(blocked()), call(AttemptResult.ENDED, blocked()), 6.0), withdrawn="resolved"),
        EpisodeProgress(now=6.0 + EFFECT_SECONDS),
        Outcome.CANCELLED,
    ),
    "a lacking privilege": (
        replace(seen(blocked()), unavailable=Unavailable.MISSING_PRIVILEGE),
        EpisodeProgress(now=5.0),
        Outcome.UNAVAILABLE,
    ),
    "a failover": (replace(seen(blocked()), unavailable=Unavailable.NO_PRIMARY), EpisodeProgress(now=5.0), None),
    "no effect": (
        apply_attempt(seen(blocked()), call(AttemptResult.ENDED, blocked()), 6.0),
        EpisodeProgress(now=3600.0),
        Outcome.NO_EFFECT,
    ),
    "never a blocker": (
        apply_observation(TerminationProgress(), waiting(R.RUNNING_XACTS), 0.0),
        EpisodeProgress(now=3600.0),
        Outcome.GAVE_UP,
    ),
    "a slot on a standby": (
        apply_observation(TerminationProgress(), replace(pinned(), on_primary=False), 0.0),
        EpisodeProgress(now=REFUSED_SECONDS),
        Outcome.REFUSED,
    ),
}


@pytest.mark.parametrize(("progress", "episode", "outcome"), OUTCOMES.values(), ids=OUTCOMES.keys())
def test_timeouts_give_the_outcome_of_the_table(
    progress: TerminationProgress, episode: EpisodeProgress, outcome: Outcome | None
) -> None:
    assert apply_timeouts(progress, episode, SETTINGS).outcome == outcome


def test_no_other_session_is_ended_after_the_alert_is_gone() -> None:
    progress = apply_attempt(seen(blocked()), call(AttemptResult.ENDED, blocked()), 6.0)
    progress = apply_observation(replace(progress, withdrawn="silenced"), blocked(OTHER), 7.0)
    assert not wants_attempt(progress)
    assert step(progress, 30.0) == Wait(1.0)


def test_slot_that_was_well_is_reopened_when_a_transaction_blocks_it() -> None:
    progress = apply_observation(
        apply_attempt(seen(blocked()), call(AttemptResult.ENDED, blocked()), 6.0), existing(C.NONE), 7.0
    )
    assert should_reopen(progress, pinned())
    assert not should_reopen(progress, existing(C.NONE))


def test_slot_that_is_due_first_comes_first() -> None:
    waits, ready = seen(blocked(), now=3.0), seen(pinned(), now=0.0)
    next_attempt = next_step([waits, ready], EpisodeProgress(now=5.5, last_attempt=3.0), SETTINGS)
    assert isinstance(next_attempt, Terminate)
    assert next_attempt.target is not None
    assert next_attempt.target.blocker.slot_name == SLOT.slot_name


def ended(before: SlotState, now: float = 6.0) -> TerminationProgress:
    """Return the progress after the session was terminated."""
    return apply_attempt(seen(before), call(AttemptResult.ENDED, before), now)


def test_slot_that_another_transaction_blocked_after_our_act_is_not_healed_by_us() -> None:
    progress = apply_observation(ended(blocked()), blocked(OTHER), 10.0)
    progress = apply_observation(progress, existing(C.NONE), 20.0)
    assert (progress.outcome, progress.why) == (
        Outcome.RESOLVED_ITSELF,
        "usable, but other transactions were in its way after our act",
    )


@pytest.mark.parametrize("reason", [R.REPLAY_PAUSED, R.WAL_RECEIVER_DOWN, R.RECOVERY_CONFLICT])
def test_creation_whose_blockers_were_hidden_after_our_act_is_not_healed_by_us(reason: R) -> None:
    """While the standby does not replay, nothing shows whether another transaction blocks the slot."""
    hidden = SlotState(SlotCondition.WAITING, CreationWait("n", CREATION, reason), on_primary=False)
    progress = apply_observation(ended(blocked(on_primary=False)), hidden, 10.0)
    progress = apply_observation(progress, existing(C.NONE), 20.0)
    assert (progress.outcome, progress.why) == (
        Outcome.RESOLVED_ITSELF,
        "usable, but after our act the standby did not replay, which hides what else was in its way",
    )


def test_creation_that_waits_for_a_record_after_our_act_is_healed_by_us() -> None:
    waiting = SlotState(SlotCondition.WAITING, CreationWait("n", CREATION, R.RUNNING_XACTS), on_primary=False)
    progress = apply_observation(ended(blocked(on_primary=False)), waiting, 10.0)
    assert apply_observation(progress, existing(C.NONE), 20.0).outcome is Outcome.HEALED


def test_slot_that_moves_long_after_our_act_is_not_healed_by_us() -> None:
    progress = apply_observation(ended(pinned(1000)), existing(C.NONE, 2000), 6.1 + EFFECT_SECONDS)
    assert (progress.outcome, progress.why) == (
        Outcome.RESOLVED_ITSELF,
        "restart_lsn moved, but more than 120 s after our act",
    )


def test_another_slot_of_the_same_name_is_not_healed_by_us() -> None:
    before, after = (
        replace(state, slot=SLOT._replace(restart_position=restart, total_bytes=total))
        for state, restart, total in ((pinned(1000), 1000, 9_000), (existing(C.NONE, 2000), 2000, 0))
    )
    progress = apply_observation(ended(before), before, 7.0)
    progress = apply_observation(progress, after, 8.0)
    assert progress.outcome is Outcome.RESOLVED_ITSELF
    assert "another slot of that name" in progress.why


def test_nobody_is_ended_when_this_process_has_spent_the_hour() -> None:
    progress = apply_observation(seen(blocked()), blocked(), 5.2)
    spent = EpisodeProgress(now=5.2, last_attempt=0.1, budget_spent=True)
    assert next_step([progress], spent, SETTINGS) == Wait(1.0)
    refused = apply_timeouts(progress, replace(spent, now=REFUSED_SECONDS), SETTINGS)
    assert refused.outcome is Outcome.REFUSED
    assert refused.why.startswith("hour_spent: ")


def test_session_is_not_ended_before_the_snapshots_prove_that_it_pins_the_slot() -> None:
    waiting_for_consumer = pinned(1000, proven=False)
    progress = apply_observation(seen(waiting_for_consumer), waiting_for_consumer, 60.0)
    assert step(progress, 60.0, last=0.1) == Wait(1.0), "the records are logged: the consumer has to confirm them"
    proven = step(apply_observation(progress, pinned(1000), 61.0), 61.0, last=0.1)
    assert isinstance(proven, Terminate)
    assert proven.act


def test_further_checks_ask_for_records_until_some_are_known_that_can_be_the_proof() -> None:
    unknown = pinned(1000, awaited=None, proven=False)
    progress = apply_observation(seen(unknown), unknown, 0.5)
    assert isinstance(step(progress, 0.5, last=0.1), Wait)
    again = step(progress, 1.2, last=0.1)
    assert isinstance(again, Terminate)
    assert not again.act


def test_slot_that_several_transactions_can_pin_is_refused_as_ambiguous_with_all_of_them() -> None:
    state = pinned(1000, TRANSACTION, OTHER)
    progress = apply_observation(TerminationProgress(), state, 0.0)
    assert precheck(blocker(state)) is Refusal.AMBIGUOUS
    refused = call(AttemptResult.REFUSED, state, refusal=Refusal.AMBIGUOUS)
    progress = apply_attempt(progress, refused, 0.1)
    progress = apply_timeouts(progress, EpisodeProgress(now=SETTINGS.give_up_after), SETTINGS)
    assert progress.outcome is Outcome.REFUSED
    assert progress.why == (
        "ambiguous: client backend pid=200 user=worker application=batch;"
        " client backend pid=300 user=worker application=batch"
    )


def test_proof_is_lost_when_the_slot_moves_and_is_pinned_again() -> None:
    progress = apply_observation(seen(pinned(1000)), pinned(1000), 4.0)
    moved = apply_observation(replace(progress, blocked_at=2000), pinned(2000), 5.0)
    assert moved.target is not None
    assert moved.target.session is None


def test_creation_on_a_standby_waits_for_nothing_that_ended_before_what_it_has_replayed() -> None:
    """As while its replay hangs: it may wait for a transaction that has ended on the primary."""
    state = replace(blocked(on_primary=False), replayed=900)
    checked = call(AttemptResult.SEEN, state, position=1000)
    progress = apply_attempt(apply_observation(TerminationProgress(), state, 0.0), checked, 0.1)
    assert step(apply_observation(progress, state, 60.0), 60.0, last=0.1) == Wait(1.0)
    replayed = step(apply_observation(progress, replace(state, replayed=1000), 61.0), 61.0, last=0.1)
    assert isinstance(replayed, Terminate)
    assert replayed.act


def test_what_was_done_is_part_of_the_outcome_when_the_alert_is_withdrawn() -> None:
    progress = replace(ended(blocked()), withdrawn="silenced")
    progress = apply_timeouts(progress, EpisodeProgress(now=6.0 + EFFECT_SECONDS), SETTINGS)
    assert progress.why == "silenced; we have terminated client backend pid=200 user=worker application=batch"

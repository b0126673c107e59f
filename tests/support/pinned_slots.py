"""When an exporter that is scraped every 15, 30 or 60 s shows a transaction that pins a slot: by the model."""

from pgslot.diagnosis.retention import Retention, RetentionCause
from tests.support.fakes.logical_decoding import Consumer, Open, Server, watch

BEGINS = 600
MEBIBYTE = 1024 * 1024
INTERVALS = (15, 30, 60)


def pinned_for(seconds: int, interval: int, phase: int) -> list[tuple[int, Retention]]:
    """Return (seconds since the transaction began, diagnosis) of a slot whose consumer confirms every 10 s."""
    server = Server(10 * MEBIBYTE, [Open(BEGINS, BEGINS, BEGINS + seconds)])
    watched = watch(Consumer(server, confirms_each=10), BEGINS + seconds + 120, interval, 1, phase)
    return [(at - BEGINS, retention) for at, retention in watched if at > BEGINS]


def phases(interval: int) -> range:
    return range(0, interval, interval // 5)


def shown_after(interval: int) -> tuple[str, str]:
    """Return after how many seconds a long pin is `transaction`, and is named, at the earliest and at the latest."""
    causes, names = [], []
    for phase in phases(interval):
        watched = pinned_for(600, interval, phase)
        causes.append(next(at for at, retention in watched if retention.cause is RetentionCause.TRANSACTION))
        names.append(next(at for at, retention in watched if retention.blocker is not None))
    return f"{min(causes)} to {max(causes)} s", f"{min(names)} to {max(names)} s"


def certainly_shown(interval: int) -> str:
    """Return how long a pin has to last to be shown as `transaction` for certain, in steps of 15 s."""
    for seconds in range(15, 600, 15):
        if all(
            any(retention.cause is RetentionCause.TRANSACTION for _, retention in pinned_for(seconds, interval, phase))
            for phase in phases(interval)
        ):
            return f"{seconds} s"
    raise AssertionError("never shown")

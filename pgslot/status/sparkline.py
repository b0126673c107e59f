"""A slot's retained WAL as one line of characters."""

from collections.abc import Sequence

from pgslot.status.growth import HeldSample

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.-=+*#@"
WIDTH = 16


def sparkline(samples: Sequence[HeldSample], *, ascii_only: bool = False) -> str:
    """Return one character for each of up to WIDTH equal parts of the time, from 0 to the most; empty: no samples."""
    if not samples:
        return ""
    levels = ASCII if ascii_only else BLOCKS
    first, last = samples[0].at, samples[-1].at
    parts: list[list[int]] = [[] for _ in range(min(WIDTH, len(samples)))]
    for sample in samples:
        position = 0 if last == first else int((sample.at - first) / (last - first) * len(parts))
        parts[min(position, len(parts) - 1)].append(sample.held_bytes)
    most = max(sample.held_bytes for sample in samples)
    values = [max(part) if part else None for part in parts]
    shown: list[int] = []
    for value in values:
        shown.append(shown[-1] if value is None else value)
    return "".join(
        levels[0 if most <= 0 else min(len(levels) - 1, value * len(levels) // (most + 1))] for value in shown
    )

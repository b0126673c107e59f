"""The status page: it reads well on a phone, and needs no script."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined

from healer.episodes.report import Report
from healer.remedies.attempt import Capability
from healer.remedies.progress import Outcome
from pgslot import __version__

_OUTCOME_CLASSES = {None: "busy", Outcome.HEALED: "good", Outcome.RESOLVED_ITSELF: "good", Outcome.DRY_RUN: "busy"}
"""CSS class of an outcome, None: the episode runs; all other outcomes are bad."""

_TEMPLATES = Environment(
    loader=PackageLoader("healer"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A remedy of a cluster, as the page shows it."""

    name: str
    remedy: str
    capability: Capability | None
    """None: not checked yet."""
    calls_left: int
    dry_run: bool
    fallback: bool


def status_page(clusters: Iterable[ClusterStatus], episodes: Iterable[Report], older: int | None) -> str:
    """Return the page, all values escaped. `older`: offset of the page with older episodes; None: there are none."""
    return _TEMPLATES.get_template("status.html").render(
        version=__version__,
        now=_utc(datetime.now(UTC).timestamp()),
        clusters=list(clusters),
        episodes=list(episodes),
        older=older,
        outcome_classes=_OUTCOME_CLASSES,
        utc=_utc,
    )


def _utc(unix_time: float) -> str:
    return f"{datetime.fromtimestamp(unix_time, UTC):%Y-%m-%d %H:%M:%S} UTC"

"""The status page: for a person on a phone at night, and for a browser that runs no script."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined

from healer.episodes.report import Report
from healer.remedies.attempt import Capability
from healer.remedies.progress import Outcome
from pgslot import __version__

_KINDS = {None: "busy", Outcome.HEALED: "good", Outcome.RESOLVED_ITSELF: "good", Outcome.DRY_RUN: "busy"}
"""How an outcome is coloured; all others are bad."""

_TEMPLATES = Environment(
    loader=PackageLoader("healer"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """What the page says of one remedy of a cluster."""

    name: str
    remedy: str
    capability: Capability | None
    """None: not checked yet."""
    calls_left: int
    dry_run: bool
    fallback: bool


def status_page(clusters: Iterable[ClusterStatus], episodes: Iterable[Report], older: int | None) -> str:
    """Return the page; whatever comes from outside is escaped. `older`: the offset of the next page; None: no more."""
    return _TEMPLATES.get_template("status.html").render(
        version=__version__,
        now=_moment(datetime.now(UTC).timestamp()),
        clusters=list(clusters),
        episodes=list(episodes),
        older=older,
        kinds=_KINDS,
        moment=_moment,
    )


def _moment(unix_time: float) -> str:
    return f"{datetime.fromtimestamp(unix_time, UTC):%Y-%m-%d %H:%M:%S} UTC"

"""Writes the page of the incident and its picture: `python -m tests.simulations.seed_incident` takes two minutes."""

from tests.simulations.seed_incident.incident import THRESHOLDS, run_incident
from tests.simulations.seed_incident.page import page, picture
from tests.support.servers.monitoring import ALERTS
from tests.support.servers.stack import Stack

PAGE = ALERTS / "seed-incident.md"
PICTURE = ALERTS / "seed-incident.svg"


def main() -> None:
    with Stack(thresholds=THRESHOLDS) as stack:
        story = run_incident(stack)
    PAGE.write_text(page(story, PICTURE.name), "utf-8")
    PICTURE.write_text(picture(story), "utf-8")


if __name__ == "__main__":
    main()

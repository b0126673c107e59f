"""Write the page of the incident, and its picture, anew: `python -m tests.seed`, two minutes."""

from tests.seed.incident import THRESHOLDS, happen
from tests.seed.page import page, picture
from tests.stack.monitoring import ALERTS
from tests.stack.stack import Stack

PAGE = ALERTS / "seed-incident.md"
PICTURE = ALERTS / "seed-incident.svg"


def main() -> None:
    with Stack(thresholds=THRESHOLDS) as stack:
        story = happen(stack)
    PAGE.write_text(page(story, PICTURE.name), "utf-8")
    PICTURE.write_text(picture(story), "utf-8")


if __name__ == "__main__":
    main()

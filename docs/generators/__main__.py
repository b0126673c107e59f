"""`python -m docs.generators` writes the generated pages; `--check` only names those that are outdated."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from dashboards.files import put
from docs.generators.alerts import alerts_page
from docs.generators.command_line import command_line_page
from docs.generators.configuration import configuration_page
from exporter.metrics_reference import metric_reference as exporter_metrics
from healer.commands.metrics_reference import metric_reference as healer_metrics

FOLDER = Path(__file__).parents[1] / "reference"
PAGES: Mapping[str, Callable[[], str]] = {
    "alerts.md": alerts_page,
    "command-line.md": command_line_page,
    "configuration.md": configuration_page,
    "exporter-metrics.md": exporter_metrics,
    "healer-metrics.md": healer_metrics,
}
"""File names in docs/reference, and what returns their text."""


def main() -> int:
    parser = argparse.ArgumentParser(description=f"Writes {', '.join(PAGES)} in docs/reference.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is outdated")
    options = parser.parse_args()
    pages = {FOLDER / name: page() for name, page in PAGES.items()}
    return put(pages, "docs-reference", check=options.check)


if __name__ == "__main__":
    sys.exit(main())

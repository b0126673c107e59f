"""`python -m docs.generators` writes the generated pages; `--check` only names those that are outdated."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from dashboards.files import put
from docs.generators.alerts import alerts_page
from docs.generators.command_line import command_line_page
from docs.generators.configuration import configuration_page
from docs.generators.helm_values import helm_values_page
from docs.generators.manual_page import manual_page
from exporter.cli import parser as exporter_parser
from exporter.metrics_reference import metric_reference as exporter_metrics
from healer.cli import parser as healer_parser
from healer.commands.metrics_reference import metric_reference as healer_metrics
from pgslot.cli.command_line import read_parser
from pgslot.cli.completion.bash import bash_script
from pgslot.cli.completion.fish import fish_script
from pgslot.cli.completion.zsh import zsh_script

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/reference"
SHARE = ROOT / "deploy/share"
"""What the wheel installs below share/, where man and the shells look."""
PAGES: Mapping[str, Callable[[], str]] = {
    "alerts.md": alerts_page,
    "command-line.md": command_line_page,
    "configuration.md": configuration_page,
    "exporter-metrics.md": exporter_metrics,
    "healer-metrics.md": healer_metrics,
    "helm-values.md": helm_values_page,
}
"""File names in docs/reference, and what returns their text."""


def shared_files() -> dict[Path, str]:
    """Return the manual pages and the completions of both programs, by file."""
    files = {}
    programs = [read_parser(parser()) for parser in (exporter_parser, healer_parser)]
    for program, other in zip(programs, reversed(programs), strict=True):
        files[SHARE / f"man/man1/{program.name}.1"] = manual_page(program, see_also=other.name)
        files[SHARE / f"bash-completion/completions/{program.name}"] = bash_script(program)
        files[SHARE / f"zsh/site-functions/_{program.name}"] = zsh_script(program)
        files[SHARE / f"fish/vendor_completions.d/{program.name}.fish"] = fish_script(program)
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=f"Writes {', '.join(PAGES)} in docs/reference, and deploy/share.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is outdated")
    options = parser.parse_args()
    pages = {FOLDER / name: page() for name, page in PAGES.items()}
    return put(pages | shared_files(), "its source", check=options.check, target="docs-reference")


if __name__ == "__main__":
    sys.exit(main())

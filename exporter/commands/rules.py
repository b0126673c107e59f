"""`pg-slot-exporter rules`: prints the alerting rules, with links to the user's own runbooks."""

import argparse

from pgslot.alerting_rules import SHIPPED_BASE, alerting_rules

HELP = "print the alerting rules for Prometheus"
EXAMPLES = (
    (
        "Give Prometheus the rules, with links to the runbooks that your exporter serves.",
        "pg-slot-exporter rules --runbook-base=https://slots.example.com/runbooks >pgslot.rules.yml",
    ),
)


def add_arguments(parser: argparse.ArgumentParser, *, again: bool = True) -> None:
    """Add --runbook-base; `again`: for the subcommand, where a missing flag keeps the value given before it."""
    parser.add_argument(
        "--runbook-base",
        metavar="URL",
        default=argparse.SUPPRESS if again else SHIPPED_BASE,
        help=f"only for the command `rules`: the URL at which people find the runbooks; default {SHIPPED_BASE}",
    )


def run(options: argparse.Namespace) -> int:
    """Print the rules. Raises ConfigError for a bad URL."""
    print(alerting_rules(options.runbook_base), end="")
    return 0

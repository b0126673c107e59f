"""`pg-slot-exporter metrics`: prints the metric reference as Markdown."""

import argparse

from exporter.metrics_reference import metric_reference

HELP = "print the metric reference as Markdown"
EXAMPLES = (("Read which metrics there are.", "pg-slot-exporter metrics | less"),)


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no flags."""


def run(_options: argparse.Namespace) -> int:
    """Print the metric reference."""
    print(metric_reference(), end="")
    return 0

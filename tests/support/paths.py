"""The repository's root folder, independent of a test's own path."""

from pathlib import Path

ROOT = Path(__file__).parents[2]

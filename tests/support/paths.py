"""Where the repository's files are, however deep a test lies."""

from pathlib import Path

ROOT = Path(__file__).parents[2]

"""`python -m deploy.release` builds and checks a release in dist/; --tag also compares the version with a tag."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.release.build import build, check_installed, install
from deploy.release.changelog import (
    ReleaseError,
    check_between_releases,
    check_tag,
    read_changelog,
    release_notes,
)
from pgslot import __version__

ROOT = Path(__file__).parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description="Builds and checks what is released.")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "dist", metavar="FOLDER", help="default dist; it must be empty"
    )
    parser.add_argument(
        "--tag", metavar="TAG", help="fail unless this tag and CHANGELOG.md have the version of the code"
    )
    parser.add_argument(
        "--notes", action="store_true", help="print the release notes of CHANGELOG.md, and build nothing"
    )
    options = parser.parse_args()
    try:
        if options.tag is not None:
            check_tag(options.tag, __version__)
            release_notes(read_changelog(ROOT), __version__)
        if options.notes:
            print(release_notes(read_changelog(ROOT), __version__), end="")
            return 0
        check_between_releases(read_changelog(ROOT), __version__)
        files = build(ROOT, options.folder, __version__, _epoch())
        with tempfile.TemporaryDirectory() as folder:
            install(next(file for file in files if file.suffix == ".whl"), ROOT, Path(folder))
            check_installed(Path(folder), __version__)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    print("\n".join(str(file) for file in (*files, options.folder / "SHA256SUMS")))
    return 0


def _epoch() -> int:
    """Return the Unix time of the last commit."""
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    sys.exit(main())

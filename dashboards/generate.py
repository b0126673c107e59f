"""Makes the dashboards' JSON: `python -m dashboards.generate`, and `--check` to see whether it is in step."""

import argparse
import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import cluster, fleet
from dashboards.files import put

FOLDER = Path(__file__).parent / "json"
DASHBOARDS = {"pgslot-fleet.json": fleet.build, "pgslot-cluster.json": cluster.build}


def main() -> int:
    parser = argparse.ArgumentParser(description=f"Makes {' and '.join(DASHBOARDS)}.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of step")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="default: json/ beside this program")
    options = parser.parse_args()
    wanted = {
        options.folder / name: json.dumps(build().build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for name, build in DASHBOARDS.items()
    }
    return put(wanted, "its code", check=options.check)


if __name__ == "__main__":
    sys.exit(main())

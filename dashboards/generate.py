"""Makes the dashboards' JSON: `python -m dashboards.generate`, and `--check` to see whether it is in step."""

import argparse
import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import cluster, fleet

FOLDER = Path(__file__).parent / "json"
DASHBOARDS = {"pgslot-fleet.json": fleet.build, "pgslot-cluster.json": cluster.build}


def main() -> int:
    parser = argparse.ArgumentParser(description=f"Makes {' and '.join(DASHBOARDS)}.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of step")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="default: json/ beside this program")
    options = parser.parse_args()
    out_of_step = []
    for name, build in DASHBOARDS.items():
        wanted = json.dumps(build().build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        file = options.folder / name
        if not options.check:
            file.write_text(wanted, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != wanted:
            out_of_step.append(name)
    for name in out_of_step:
        print(f"{name} is out of step with its code: run make dashboards", file=sys.stderr)
    return 1 if out_of_step else 0


if __name__ == "__main__":
    sys.exit(main())

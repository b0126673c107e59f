"""
Writes operator/prometheusrule.yaml from alerts/pgslot.rules.yml, comments included: make kubernetes.

With --check it writes nothing and ends with 1 if the file is out of step. A path as argument stands for the file.
"""

import argparse
import sys
from pathlib import Path

RULES = Path(__file__).parents[2] / "alerts" / "pgslot.rules.yml"
MANIFEST = Path(__file__).parent / "operator" / "prometheusrule.yaml"

HEAD = """\
# Made from alerts/pgslot.rules.yml by "make kubernetes": change that file.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: pg-slot-healer
  labels: {app.kubernetes.io/part-of: pg-slot-healer}
spec:
"""


def manifest(rules: str) -> str:
    """Return the PrometheusRule for a rule file, whose text becomes the spec."""
    return HEAD + "".join(f"  {line}" if line.strip() else line for line in rules.splitlines(keepends=True))


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the file is in step")
    parser.add_argument("file", nargs="?", type=Path, default=MANIFEST)
    options = parser.parse_args()
    wanted = manifest(RULES.read_text("utf-8"))
    if not options.check:
        options.file.write_text(wanted, "utf-8")
    elif options.file.read_text("utf-8") != wanted:
        print(f"{options.file} is out of step with {RULES.name}: run make kubernetes", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
